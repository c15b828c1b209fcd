"""What a trace is asked for: a prompt with settings, or a picture of a dataset."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from sdbatch.engine.check_run import limits_of
from sdbatch.engine.model_need import HALF
from sdbatch.engine.request import FLAGS, size_of
from sdbatch.engine.trace import FRAMES, Trace, trace_stored, trace_with
from sdbatch.errors import InputError
from sdbatch.model_specs import RenderSpec
from sdbatch.plan.rows import hash_of
from sdbatch.records import RenderRow
from sdbatch.render.loading import load_renderer
from sdbatch.render.model import Model
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.store import open_store

DEFAULT_MODEL, DEFAULT_OUT = "shapes", "strip.png"
ROW = (
    *("num_inference_steps", "guidance_scale", "true_cfg_scale", "scheduler", "negative_prompt"),
    *("prompt_syntax", "seed"),
)
"""Options that are columns of a manifest by the same name."""

_KEY = re.compile(r"\d{9}_\d{3}")


class TraceOptions(TypedDict, total=False):
    """Settings of a traced prompt; what is left out is decided by the model.

    With a dataset only `model` and `models_dir` may be given: where the weights lie now.
    """

    model: str
    models_dir: str
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float
    size: str
    scheduler: str
    negative_prompt: str
    prompt_syntax: str
    seed: int
    dtype: Literal["auto", "float32", "bfloat16", "float16"]


def trace(
    prompt: str,
    *,
    out: str | Path = DEFAULT_OUT,
    dataset: str | Path | None = None,
    frames: int = FRAMES,
    **options: Unpack[TraceOptions],
) -> Trace:
    """Draw one row and show how it came about, from noise to picture.

    Args:
        prompt: What to draw, or with `dataset` the key of a picture in it.
        out: Local file for the strip, a PNG.
        dataset: A dataset's folder or URL.
        frames: Calls of the model to show.
        options: See `TraceOptions`. Without `seed` it is the picture that `render` draws
            for this prompt.

    Raises:
        InputError: The key, the prompt's settings or the model cannot be used.
        RenderError: The row cannot be drawn.
        StorageError: The dataset cannot be read, or the strip not be written.
    """
    if dataset is not None:
        given = [name for name in options if name not in ("model", "models_dir")]
        if given:
            raise InputError(
                f"{_flag(given[0])}: {prompt} is drawn as it was, leave the option out, "
                "or trace its prompt"
            )
        return trace_stored(
            open_store(dataset),
            prompt,
            Path(out),
            frames=frames,
            model=options.get("model", ""),
            models_dir=options.get("models_dir", ""),
        )
    if _KEY.fullmatch(prompt):
        raise InputError(f"{prompt}: is a key, say with --from which dataset it is of")
    dtype = options.get("dtype", "auto")
    need = Need(half=dtype in HALF, models_dir=options.get("models_dir", ""))
    loaded = _load(options.get("model", DEFAULT_MODEL), dtype, need)
    asked: dict[str, Any] = {name: options[name] for name in ROW if name in options}  # type: ignore[literal-required]
    if "size" in options:
        asked["width"], asked["height"] = size_of(options["size"])
    row = next(loaded.resolve([{"prompt": prompt, **asked}]))
    if "seed" not in asked:
        row = _seeded(row, next(loaded.resolve([prompt])), loaded.facts.revision)
    return trace_with(loaded.renderer, row, loaded.facts.name, Path(out), frames=frames)


def _load(name: str, dtype: str, need: Need) -> Model:
    facts = find_model(name, need)
    spec = RenderSpec(name, facts.path, facts.revision, dtype, {}, 1)
    return Model(facts, load_renderer(spec, ()), limits_of(facts))


def _seeded(row: RenderRow, plain: RenderRow, revision: str) -> RenderRow:
    """The row with the identity and seed of its prompt alone: to `render`, flags are neither."""
    known = replace(row, row_id=plain.row_id, seed=plain.seed)
    return replace(known, row_hash=hash_of(known, revision))


def _flag(option: str) -> str:
    return FLAGS[option][0] if option in FLAGS else f"--{option}"
