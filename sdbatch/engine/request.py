"""What a caller asked, in layers: job file, `--set`, flags; and where the prompts are.

Each flag stands for one job key, and is named as the flag in every message, so that a
person reads what they typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from sdbatch.engine.budgets import means_of
from sdbatch.engine.choice import RunOptions
from sdbatch.engine.prepare import Source
from sdbatch.engine.run_terms import Limits
from sdbatch.errors import InputError, JobError
from sdbatch.job import Asked, nearest
from sdbatch.manifest.freeze import as_table, prompts_table
from sdbatch.plan.fingerprint import NOT_IN_PLAN, canonical

FLAGS = {
    "model": ("--model", "model"),
    "models_dir": ("--models-dir", "models_dir"),
    "num_inference_steps": ("--steps", "defaults.num_inference_steps"),
    "guidance_scale": ("--guidance-scale", "defaults.guidance_scale"),
    "true_cfg_scale": ("--true-cfg-scale", "defaults.true_cfg_scale"),
    "scheduler": ("--scheduler", "defaults.scheduler"),
    "negative_prompt": ("--negative-prompt", "defaults.negative_prompt"),
    "prompt_syntax": ("--prompt-syntax", "defaults.prompt_syntax"),
    "picture_metadata": ("--picture-metadata", "image.metadata"),
    "format": ("--format", "format"),
    "captions": ("--captions", "captions"),
    "class_label": ("--class-label", "class_label"),
    "caption_column": ("--caption-column", "caption_column"),
    "image_format": ("--image-format", "image.format"),
    "quality": ("--quality", "image.quality"),
    "lossless": ("--lossless", "image.lossless"),
    "chroma": ("--chroma", "image.chroma"),
    "png_level": ("--png-level", "image.png_level"),
    "save_size": ("--save-size", "image.save_size"),
    "license": ("--license", "license"),
    "num_images_per_prompt": ("--num-images-per-prompt", "defaults.num_images_per_prompt"),
    "seed": ("--seed", "seed"),
    "device": ("--device", "render.device"),
    "vae": ("--vae", "vae"),
    "memory": ("--memory", "render.memory"),
    "quantize": ("--quantize", "render.quantize"),
    "dtype": ("--dtype", "render.dtype"),
    "engine": ("--engine", "engine"),
    "shard_size": ("--shard-size", "shards.size"),
    "batch_size": ("--batch-size", "render.batch_size"),
    "compile": ("--compile", "render.compile"),
    "strict_pixels": ("--strict-pixels", "render.strict_pixels"),
    "canary": ("--no-canary", "canary"),
    "speculate": ("--no-speculate", "speculate"),
    "single_driver": ("--single-driver", "single_driver"),
    "allow_failed": ("--allow-failed", "failures.allow"),
    "stop_after_failed": ("--stop-after-failed", "failures.stop_after"),
    "limit": ("--limit", "limit"),
    "safety": ("--safety", "safety"),
    "filter": ("--filter", "filter"),
    "best_of": ("--best-of", "best_of"),
    "best_by": ("--best-by", "best_by"),
}
"""Option to (flag, job key)."""

OWN_FOLDER = "out"
"""Where pictures of `--prompt` go when no folder is named: below it, by their content."""

_SIZE = re.compile(r"(\d+)[xX](\d+)")
_WORKERS = re.compile(r"(?:([1-9]\d*):)?([1-9]\d*|auto)")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Layer = tuple[str, Mapping[str, Any]]


def refuse_unknown(options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """A misspelt option is refused: silently ignored it would cost a night.

    Raises:
        JobError: An option is unknown; the nearest known one is named.
    """
    for name in options:
        if name not in known:
            raise JobError(f"unknown option '{name}'{nearest(name, sorted(known))}")


def layers(manifest: object, out: object, options: Mapping[str, Any]) -> list[Layer]:
    """The layers of a call, weakest first.

    Raises:
        InputError: The job file cannot be read, or an option is malformed.
    """
    found: list[Layer] = []
    if options.get("job"):
        found.append((f"job file {options['job']}", read_job_file(options["job"])))
    found += _set_layers(options.get("settings") or ())
    for option, (flag, key) in FLAGS.items():
        if options.get(option) is not None:
            found.append((flag, {key: options[option]}))
    if options.get("score"):
        found.append(("--score", {"scores": scores_of(options["score"])}))
    if options.get("size"):
        width, height = size_of(options["size"])
        found.append(("--size", {"defaults.width": width, "defaults.height": height}))
    if options.get("workers") is not None:
        found.append(("--workers", workers_of(options["workers"])))
    if options.get("wait_for_workers"):
        seconds = seconds_of(options["wait_for_workers"], "--wait-for-workers")
        found.append(("--wait-for-workers", {"workers.wait_s": seconds}))
    if isinstance(manifest, str | Path):
        found.append(("MANIFEST", {"manifest": str(manifest)}))
    if out is not None:
        found.append(("OUT", {"output": str(out)}))
    return found


def read_job_file(path: str | Path) -> Mapping[str, Any]:
    """The keys of a job file.

    Raises:
        JobError: It is not there, no YAML, or no mapping of keys.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"job file {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise JobError(f"job file {path}: is not YAML ({line})") from error
    if not isinstance(tree, dict):
        raise JobError(f"job file {path}: must hold keys such as 'manifest: prompts.parquet'")
    return tree


def source_of(manifest: Any, prompts: Sequence[str] | None, asked: Asked) -> Source:
    """Where the prompts of a call are.

    Raises:
        InputError: There are none, or two sources at once.
    """
    if prompts is not None:
        if isinstance(prompts, str):
            prompts = [prompts]
        if manifest is not None or asked.value("manifest"):
            raise InputError("--prompt: give either prompts or a manifest, not both")
        return Source(table=prompts_table(prompts), name="prompts")
    if manifest is None or isinstance(manifest, str | Path):
        url = asked.value("manifest")
        if not url:
            raise InputError("no manifest: name a Parquet file, '-' for lines, or use --prompt")
        return Source(url=url, name=url)
    return Source(table=as_table(manifest), name="table")


def own_folder(source: Source, asked: Asked) -> str:
    """The folder of prompts that name none: the same prompts and settings find it again.

    Raises:
        InputError: The source is a manifest, which needs a named output.
    """
    if source.table is None or source.name != "prompts":
        raise InputError("no output: name a folder or URL after the manifest")
    passed_over = NOT_IN_PLAN - {"vae"}  # a plan says its revision, which nobody has read yet
    said = {key: asked.value(key) for key in sorted(asked.sources) if key not in passed_over}
    model = asked.value("model")
    text = canonical([source.table["prompt"].to_pylist(), said, model])
    return f"{OWN_FOLDER}/prompts-{sha256(text).hexdigest()[:8]}"


def seconds_of(text: str | float, flag: str) -> float:
    """Seconds of `90`, `90s`, `30m`, `6h` or `2d`.

    Raises:
        JobError: It is none of these.
    """
    match = _TIME.fullmatch(str(text).strip())
    if not match:
        raise JobError(f"{flag}: {text!r} is no time, write 90s, 30m or 6h")
    return float(match[1]) * _UNIT_S[match[2]]


def workers_of(text: int | str) -> dict[str, Any]:
    """Job keys of `8`, `2:8`, `2:auto` or `auto`.

    Raises:
        JobError: It is none of these.
    """
    if text == "auto":
        return {"workers.max": "auto"}
    match = _WORKERS.fullmatch(str(text).strip())
    if not match:
        raise JobError(f"--workers: {text!r}: write a whole number from 1, MIN:MAX or auto")
    most = "auto" if match[2] == "auto" else int(match[2])
    if match[1] and most != "auto" and int(match[1]) > int(most):
        raise JobError(f"--workers: {text}: the minimum is above the maximum")
    return {**({"workers.min": int(match[1])} if match[1] else {}), "workers.max": most}


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of `512x768`.

    Raises:
        JobError: It is no size.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if not match:
        raise JobError(f"--size: {text!r} is no size, write width x height such as 512x768")
    return int(match[1]), int(match[2])


def scores_of(score: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Name to model of `clip=openai/clip-vit-base-patch32`, once or more often.

    Raises:
        JobError: A text is malformed, or a name is given twice.
    """
    if isinstance(score, Mapping):
        return dict(score)
    models: dict[str, str] = {}
    for text in [score] if isinstance(score, str) else score:
        name, _, model = text.partition("=")
        if not name or not model:
            raise JobError(f"--score {text}: write NAME=MODEL, such as clip=models/clip")
        if name in models:
            raise JobError(f"--score {text}: {name} is named twice, give each its own name")
        models[name] = model
    return models


def run_options(asked: Asked, options: Mapping[str, Any]) -> RunOptions:
    """How a call runs: keys of the job, and what is said in the call alone.

    Raises:
        JobError: A time is malformed.
    """
    workers = asked.value("workers.max")
    return RunOptions(
        engine=asked.value("engine"),
        address=options.get("address"),
        workers=None if workers == "auto" else workers,
        wait_s=asked.value("workers.wait_s"),
        dashboard=options.get("dashboard", False),
        canary=asked.value("canary"),
        single_driver=asked.value("single_driver"),
        limits=_limits(asked, options),
    )


def _limits(asked: Asked, options: Mapping[str, Any]) -> Limits:
    stop_after, drain = options.get("stop_after"), options.get("drain")
    stop_after_s = None if stop_after is None else seconds_of(stop_after, "--stop-after")
    if stop_after_s == 0:
        raise JobError(f"--stop-after: {stop_after!r} leaves no time to draw, write 6h or 90m")
    limits = Limits(
        min_workers=asked.value("workers.min"),
        speculate=asked.value("speculate"),
        stop_after_s=stop_after_s,
        budget=means_of(options).budget,
    )
    return limits if drain is None else replace(limits, drain_s=seconds_of(drain, "--drain"))


def _set_layers(settings: Sequence[str] | Mapping[str, Any]) -> Iterator[Layer]:
    if isinstance(settings, Mapping):
        yield "settings", settings
        return
    for text in [settings] if isinstance(settings, str) else settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise JobError(f"--set {text}: write key=value, such as image.png_level=6")
        try:
            yield "--set", {key.strip(): yaml.safe_load(value)}
        except yaml.YAMLError as error:
            raise JobError(f"--set {text}: the value is not YAML") from error
