"""What diffusers' pipelines are called with: the facts that planning needs without torch.

`python -m sdbatch.render.pipelines.pipeline_facts` prints them; `families/pipeline_facts.json`
holds what it printed, and a test compares the two, so a new diffusers release shows in a diff.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import diffusers
from diffusers.pipelines import auto_pipeline

TAKEN = (
    *("prompt", "negative_prompt", "class_labels", "batch_size", "height", "width"),
    *("num_inference_steps", "guidance_scale", "true_cfg_scale", "use_resolution_binning"),
    "intermediate_timesteps",
)
"""Parameters of a call that rows have something to say about."""

NUMBERS = ("height", "width", "num_inference_steps", "guidance_scale", "true_cfg_scale")

_PICTURE = re.compile(r"images?|\w+(?<!adapter)_images?")
_MOVING = re.compile(r"num_frames|video\w*|\w+_video|frames|frame_size")
_SOUND = re.compile(r"lyrics|audio\w*|\w*duration\w*|\w+_in_s")
_TEXT = re.compile(r"gen_length|messages")
_SHOWS = re.compile(r"\bimages=|PipelineOutput\((?:images?|output)\b")
_WHOLE_NUMBERS = re.compile(r"\.cpu\(\)\.permute\([\d, ]+\)\.numpy\(\)")
_GENERAL = ("KarrasDiffusionSchedulers", "SchedulerMixin")
_SCHEDULER = re.compile(r"\b\w+Scheduler\b")


def pipeline_facts() -> dict[str, dict[str, Any]]:
    """Pipeline class to how rows are drawn with it.

    `way` is `text`, `class` (a label instead of a prompt), `nothing` (neither), or `unfit` with
    a `reason`. `takes` are those of `TAKEN` that a call has, `defaults` their numbers there.
    `half` is false where its pictures leave it in the type of its weights, which numpy cannot
    hold in bfloat16. `schedulers` are the classes it is written for; without, those of any
    diffusion model. `package` is the part of diffusers that its own models come from. Classes
    whose optional libraries are not installed here are left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pipelines on their way out say so when looked at
        return {name: _facts(name, made) for name, made in _pipelines()}


def _pipelines() -> Iterator[tuple[str, Any]]:
    for name in sorted(dir(diffusers)):
        made = getattr(diffusers, name) if name.endswith("Pipeline") else None
        ours = isinstance(made, type) and issubclass(made, diffusers.DiffusionPipeline)
        if ours and "__call__" in dir(made):
            yield name, made


def _facts(name: str, made: Any) -> dict[str, Any]:
    call = dict(inspect.signature(made.__call__).parameters)
    del call["self"]
    reason = _unfit(name, made, call)
    if reason:
        return {"way": "unfit", "reason": reason}
    way = "text" if "prompt" in call else "nothing"
    if "class_labels" in call and _needed(call["class_labels"]):
        way = "class"
    found: dict[str, Any] = {"way": way, "takes": [one for one in TAKEN if one in call]}
    defaults = {one: call[one].default for one in NUMBERS if one in call}
    found["defaults"] = {key: value for key, value in defaults.items() if _is_number(value)}
    schedulers = _schedulers(made)
    if schedulers:
        found["schedulers"] = schedulers
    if _WHOLE_NUMBERS.search(inspect.getsource(made.__call__)):
        found["half"] = False
    return found | {"package": made.__module__.split(".")[-2]}


def _unfit(name: str, made: Any, call: Mapping[str, inspect.Parameter]) -> str:
    """Why a row cannot be drawn with it; empty where it can."""
    for pattern, gives in ((_MOVING, "video"), (_SOUND, "sound"), (_TEXT, "text")):
        if any(pattern.fullmatch(one) for one in call):
            return f"draws no picture but {gives}"
    pictures = [one for one in call if _PICTURE.fullmatch(one) and "embeds" not in one]
    if pictures and not _starts_from_text(name):
        return f"draws from a picture: needs {pictures[0]}"
    needed = [one for one, parameter in call.items() if _needed(parameter)]
    others = [one for one in needed if one not in ("prompt", "class_labels")]
    if others:
        return f"needs {' and '.join(others)}, which no row has"
    if not {"prompt", "class_labels", "batch_size"} & call.keys():
        return "takes neither prompts nor a number of pictures"
    if "generator" not in call:
        return "takes no generator: its pictures could not be drawn again"
    if not _SHOWS.search(inspect.getsource(made.__call__)) and not _starts_from_text(name):
        return "its output holds no pictures"
    return ""


def _starts_from_text(name: str) -> bool:
    """Whether diffusers itself lists it for text alone, whatever else it may be given."""
    listed = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    return any(name == one.__name__ for one in listed) and not re.search("Control|Inpaint", name)


def _needed(parameter: inspect.Parameter) -> bool:
    rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in rest


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _schedulers(made: Any) -> list[str]:
    """The classes it is written for; none for a pipeline that steps as any scheduler wants."""
    said = inspect.signature(made.__init__).parameters.get("scheduler")
    if said is None:
        return []
    names = str(said.annotation)
    general = any(name in names for name in _GENERAL)
    if general or "scale_model_input" in inspect.getsource(made.__call__):
        return []
    return sorted(set(_SCHEDULER.findall(names)))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(pipeline_facts(), indent=1, sort_keys=True) + "\n")
