"""ComfyUI's API prompt: a graph of nodes, of which every sampler becomes a row.

From a sampler the links are followed back: to the texts that condition it, the latents it
begins with, the model it draws with. The whole graph stays beside the row in
`comfyui_prompt`, so that nothing is lost that a row cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sdbatch.errors import ManifestError
from sdbatch.manifest.importers.row import Row, as_text, keep, put, put_seed, real, whole
from sdbatch.manifest.importers.text_lines import whole_text
from sdbatch.manifest.prompt_syntax import A1111

PREFIX = "comfyui_"
Graph = Mapping[str, Mapping[str, Any]]
NAMES = {
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "sampler_name": "scheduler",
    "scheduler": "schedule_type",
}
TEXTS = ("text", "text_g", "text_l", "prompt", "string", "value", "t5xxl")
SIZES = ("width", "height")


def comfyui_rows(path: str) -> Iterator[Row]:
    """Rows of a JSON file of one API prompt, or of what the API is sent (`{"prompt": ...}`).

    Raises:
        ManifestError: It is no JSON, no API prompt, or has no sampler.
    """
    yield from graph_rows(whole_text(path), path)


def graph_rows(text: str, place: str) -> Iterator[Row]:
    """Rows of an API prompt in JSON.

    Raises:
        ManifestError: It is no JSON, no API prompt, or has no sampler.
    """
    graph = _graph(text, place)
    found = False
    for name in graph:
        inputs = _inputs(graph, name)
        if {"positive", "negative", "latent_image"} <= set(inputs) and "steps" in inputs:
            found = True
            yield _row(graph, inputs)
    if not found:
        raise ManifestError(place, -1, "", "", "holds no sampler with positive, negative and steps")


def is_graph(value: Any) -> bool:
    """Whether a JSON value is an API prompt."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(node, dict) and "class_type" in node for node in value.values())
    )


def _graph(text: str, place: str) -> Graph:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(place, -1, "", "", f"is no JSON: {str(error)[:120]}") from error
    if isinstance(value, dict) and is_graph(value.get("prompt")):
        value = value["prompt"]
    if not is_graph(value):
        reason = "is no API prompt of ComfyUI; save the workflow with 'Save (API format)'"
        raise ManifestError(place, -1, "", "", reason)
    graph: Graph = value
    return graph


def _row(graph: Graph, inputs: Mapping[str, Any]) -> Row:
    row: Row = {"prompt": as_text(_text(graph, inputs["positive"]))}
    row["prompt_syntax"] = A1111
    negative = _text(graph, inputs["negative"])
    if negative:
        row["negative_prompt"] = as_text(negative)
    for name, value in inputs.items():
        read = _literal(graph, value)
        if name in NAMES:
            put(row, NAMES[name], read, name, PREFIX)
        elif name in ("seed", "noise_seed"):
            put_seed(row, read, name, PREFIX)
        elif name == "denoise" and real(read) != 1.0:
            put(row, "strength", read, name, PREFIX)
    _latents(graph, inputs["latent_image"], row)
    _models(graph, inputs.get("model"), row)
    keep(row, "prompt", graph, PREFIX)
    return row


def _latents(graph: Graph, link: Any, row: Row) -> None:
    for name in _upstream(graph, link):
        inputs = _inputs(graph, name)
        kind = str(graph[name].get("class_type"))
        if "LoadImage" in kind and isinstance(inputs.get("image"), str):
            row.setdefault("image", as_text(inputs["image"]))
        if "Empty" not in kind:
            continue
        for size in SIZES:
            if size in inputs and size not in row:
                put(row, size, _literal(graph, inputs[size]), size, PREFIX)
        pictures = whole(_literal(graph, inputs.get("batch_size")))
        if pictures is not None and pictures > 1:
            row.setdefault("num_images_per_prompt", pictures)


def _models(graph: Graph, link: Any, row: Row) -> None:
    loras = []
    for name in _upstream(graph, link):
        inputs = _inputs(graph, name)
        file = inputs.get("ckpt_name") or inputs.get("unet_name")
        if isinstance(file, str) and "comfyui_model" not in row:
            keep(row, "model", file, PREFIX)
        if isinstance(inputs.get("lora_name"), str):
            loras.append({"name": inputs["lora_name"], "weight": inputs.get("strength_model", 1.0)})
    if loras:
        row["loras"] = as_text(loras)


def _text(graph: Graph, link: Any) -> str:
    """The first text upstream of a conditioning."""
    for name in _upstream(graph, link):
        inputs = _inputs(graph, name)
        for key in TEXTS:
            value = inputs.get(key)
            if isinstance(value, str):
                return value
    return ""


def _literal(graph: Graph, value: Any) -> Any:
    """A value, or the first number or text of the node that it is linked to."""
    for name in _upstream(graph, value):
        for inner in _inputs(graph, name).values():
            if isinstance(inner, int | float | str):
                return inner
    return value


def _upstream(graph: Graph, link: Any) -> Iterator[str]:
    """Nodes that a link leads to, nearest first, each once."""
    waiting, seen = [link], set()
    while waiting:
        at = waiting.pop(0)
        if not isinstance(at, list) or len(at) != 2 or not isinstance(at[0], str | int):
            continue
        name = str(at[0])
        if name in graph and name not in seen:
            seen.add(name)
            yield name
            waiting += _inputs(graph, name).values()


def _inputs(graph: Graph, name: str) -> Mapping[str, Any]:
    inputs = graph[name].get("inputs")
    return inputs if isinstance(inputs, dict) else {}
