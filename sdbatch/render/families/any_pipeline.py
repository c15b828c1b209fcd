"""Every other pipeline of diffusers: what a plan must know of it, from its folder, without torch.

Such a pipeline is called whole, over rows of equal settings (`pipeline_renderer.py`). What its
call takes stands in `pipeline_facts.json`, made from diffusers itself; what rows may not ask of
it is refused in `plan`. Code that lies in a model's folder is never run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.plan.facts import DRAWABLE
from sdbatch.records import ModelFacts, RowDefaults
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.weights.model_json import read_json
from sdbatch.render.weights.model_revision import index_parts

PIPELINES: Mapping[str, Mapping[str, Any]] = json.loads(
    files("sdbatch.render.families").joinpath("pipeline_facts.json").read_text(encoding="utf-8")
)
"""Pipeline class to `way`, `takes`, `defaults`, `schedulers`; see `pipelines/pipeline_facts.py`."""

SWITCHES: Mapping[str, tuple[Any, ...]] = {
    "defaults.prompt_syntax": ("plain",),
    "render.compile": (False,),
    "render.channels_last": ("auto", False),
    "render.fuse_qkv": (False,),
    "render.attention": ("auto",),
    "render.tf32": (False,),
    "render.lossy": ("",),
    "render.memory": ("auto", "resident"),
    "render.quantize": ("",),
    "vae": ("",),
}
"""Settings that reach into a model's rooms, and their values that leave a pipeline as it is."""

USUAL_SIDE = 512
USUAL_STEPS = 50
_DECODERS = ("vae", "vqvae", "movq")
_DENOISERS = ("super_res_last", "unet", "transformer")
_LIBRARIES = re.compile(r"(?:diffusers|transformers)(?:\.[\w.]+)?", re.ASCII)
_OWN = frozenset(fact["package"] for fact in PIPELINES.values() if "package" in fact)


def is_whole(pipeline_class: str) -> bool:
    """Whether rows are drawn by calling diffusers' pipeline, rather than in lanes."""
    return pipeline_class not in FAMILIES and pipeline_class in PIPELINES


def whole_facts(
    name: str, folder: Path, index: Mapping[str, Any], revision: str, size_bytes: int
) -> ModelFacts:
    """Facts of a folder whose pipeline is none of the families.

    Args:
        name: What messages call the model.
        index: Content of its `model_index.json`.
        revision: Which weights these are.
        size_bytes: Of all weights.

    Raises:
        ModelError: diffusers has no such pipeline, a row cannot be drawn with it, or the folder
            wants code of its own run.
    """
    fact = pipeline_fact(name, index)
    demand_no_code(name, folder, index)
    for part in index_parts(index):
        if not (folder / part).is_dir():
            raise ModelError(f"model {name}: the folder has no {part}/")
    pipeline = str(index["_class_name"])
    scheduler, config = _scheduler(name, folder, index)
    (width, height), size_source, multiple = _size(name, folder, index, fact)
    defaults = RowDefaults(
        negative_prompt="",
        width=width,
        height=height,
        scheduler=scheduler,
        scheduler_config="",
        num_images_per_prompt=1,
        **_numbers(fact),
    )
    sources = dict.fromkeys(RowDefaults.__slots__, f"pipeline {pipeline}")
    sources |= {"width": size_source, "height": size_source, "scheduler": "its config"}
    return ModelFacts(
        name=name,
        path=str(folder),
        revision=revision,
        pipeline_class=pipeline,
        defaults=defaults,
        sources=sources | {"prompt_syntax": "default"},
        size_multiple_px=multiple,
        num_train_timesteps=int(config.get("num_train_timesteps", 1000)),
        size_bytes=size_bytes,
        words=frozenset(),
        only=_only(fact, defaults),
        notes=_notes(name, pipeline, fact),
    )


def pipeline_fact(name: str, index: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of the pipeline that an index names.

    Raises:
        ModelError: It is not diffusers' own, or a row cannot be drawn with it.
    """
    pipeline = index.get("_class_name")
    if isinstance(pipeline, list):
        raise ModelError(
            f"model {name}: its pipeline is code of its own ({pipeline[0]}.py), which is never run"
        )
    if pipeline not in PIPELINES:
        raise ModelError(f"model {name}: {pipeline} is no pipeline of diffusers that is known here")
    fact = PIPELINES[str(pipeline)]
    if fact["way"] == "unfit":
        raise ModelError(f"model {name}: {pipeline} {fact['reason']}")
    return fact


def demand_no_code(name: str, folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse a folder whose index names classes that are not of diffusers or transformers.

    Raises:
        ModelError: It does, or Python lies where diffusers would look for it.
    """
    for part, value in index.items():
        library = value[0] if isinstance(value, list) and len(value) == 2 else None
        if library is None or part.startswith("_"):
            continue
        code = (folder / part / f"{library}.py").is_file() or (folder / f"{part}.py").is_file()
        if code or not (_LIBRARIES.fullmatch(library) or library in _OWN):
            raise ModelError(f"model {name}: its {part} is code of its own, which is never run")


def cell_px(name: str, folder: Path, index: Mapping[str, Any]) -> int:
    """Pixels per cell of what is denoised, in each direction; 1 for models that draw in pixels."""
    for part in _DECODERS:
        if (index.get(part) or [None])[0]:
            config = read_json(name, folder / part / "config.json")
            halved = config.get("temperal_downsample")
            blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
            return int(2 ** (len(halved) if halved else len(blocks or [0] * 4) - 1))
    return 1


def _size(
    name: str, folder: Path, index: Mapping[str, Any], fact: Mapping[str, Any]
) -> tuple[tuple[int, int], str, int]:
    """(width, height) of rows that say nothing, its source, and what sizes are multiples of."""
    scale = cell_px(name, folder, index)
    cells, patch = None, 1
    for part in _DENOISERS:
        if (index.get(part) or [None])[0]:
            config = read_json(name, folder / part / "config.json")
            cells = config.get("sample_size")
            if fact["way"] == "nothing" and config.get("num_class_embeds"):
                raise ModelError(f"model {name}: its classes have no names that a row could give")
            patch = max(2, _whole(config.get("patch_size"))) if part == "transformer" else 1
            break
    own = None
    if cells:
        height, width = cells if isinstance(cells, list) else (cells, cells)
        own = (int(width) * scale, int(height) * scale)
    if "height" not in fact["takes"]:
        if own is None:
            raise ModelError(f"model {name}: its configuration does not say how large it draws")
        return own, "its config", 1
    multiple = math.lcm(8, scale**2 if "movq" in index else scale * patch)
    said = fact["defaults"]
    if "width" in said and "height" in said:
        return (said["width"], said["height"]), f"pipeline {index['_class_name']}", multiple
    if own is not None:
        return own, "its config", multiple
    return (USUAL_SIDE, USUAL_SIDE), f"pipeline {index['_class_name']}", multiple


def _whole(value: object) -> int:
    """A patch's side, of a configuration that may list one for each direction."""
    if isinstance(value, list):
        return int(value[-1])
    return int(value) if isinstance(value, int) else 1


def _scheduler(name: str, folder: Path, index: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Class and configuration of the scheduler that rows mean; empty where there is none."""
    named = [part for part in index_parts(index) if part.endswith("scheduler")]
    if not named:
        return "", {}
    part = min(named, key=len)
    return index_parts(index)[part], read_json(name, folder / part / "scheduler_config.json")


def _numbers(fact: Mapping[str, Any]) -> dict[str, Any]:
    """Steps and guidance of rows that say nothing: what the call itself would take."""
    said = fact["defaults"]
    values: dict[str, Any] = {
        "num_inference_steps": said.get("num_inference_steps", USUAL_STEPS),
        "guidance_scale": float(said.get("guidance_scale", 1.0)),
    }
    if "true_cfg_scale" in said:
        values["true_cfg_scale"] = float(said["true_cfg_scale"])
    return values


def _only(fact: Mapping[str, Any], defaults: RowDefaults) -> dict[str, tuple[Any, ...]]:
    """Settings that rows and jobs may have with these values alone."""
    takes, only = fact["takes"], dict(SWITCHES)
    if "negative_prompt" not in takes:
        only["defaults.negative_prompt"] = ("",)
    if "height" not in takes:
        only["defaults.width"] = (defaults.width,)
        only["defaults.height"] = (defaults.height,)
    if "num_inference_steps" not in takes:
        only["defaults.num_inference_steps"] = (defaults.num_inference_steps,)
    if "guidance_scale" not in fact["defaults"]:
        only["defaults.guidance_scale"] = (defaults.guidance_scale,)
    own = defaults.scheduler
    if fact.get("schedulers") or own not in DRAWABLE:
        kin = [one for one in fact.get("schedulers", ()) if (one in DRAWABLE) == (own in DRAWABLE)]
        only["defaults.scheduler"] = tuple(dict.fromkeys([own, *kin]))
    return only


def _notes(name: str, pipeline: str, fact: Mapping[str, Any]) -> tuple[str, ...]:
    whole = f"model {name} is drawn by calling {pipeline}, rows of equal settings together"
    if fact["way"] == "nothing":
        return (whole, f"model {name} draws without words: prompts are ignored")
    if fact["way"] == "class":
        return (whole, f"model {name} draws classes: a prompt is the name of one")
    return (whole,)
