"""Keyword arguments of the doors in `api.py`; each is a flag of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


class Options(TypedDict, total=False):
    """Keyword arguments of `render` and `plan`; each is a flag of the command line.

    What is left out is decided by the job file, the model, or the default, in that order.
    """

    prompt: Sequence[str]
    model: str
    models_dir: str
    job: str
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float
    size: str
    scheduler: str
    negative_prompt: str
    prompt_syntax: Literal["plain", "a1111"]
    picture_metadata: Literal["infotext", "minimal", "none"]
    format: Literal["parquet", "webdataset", "files"]
    captions: Literal["txt"]
    class_label: str
    caption_column: str
    image_format: Literal["png", "jpeg", "webp", "avif", "jxl"]
    quality: int
    lossless: bool
    chroma: Literal["420", "422", "444"]
    png_level: int
    save_size: str
    license: str
    num_images_per_prompt: int
    seed: int
    device: Literal["auto", "cuda", "mps", "xpu", "cpu"]
    vae: str
    memory: Literal["auto", "resident", "rooms", "offload"]
    quantize: Literal["int8", "nf4"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    engine: Literal["auto", "ray", "inline"]
    workers: int | str
    address: str
    shard_size: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    compile: bool
    strict_pixels: bool
    score: Sequence[str] | Mapping[str, str]
    safety: str
    filter: str
    best_of: int
    best_by: str
    canary: bool
    limit: int
    settings: Sequence[str] | Mapping[str, Any]
    check: bool
    bad_rows: Literal["refuse", "fail"]
    problems: str
    speed: str
    images_per_s: float
    probe: int
    price_per_hour: float
    max_images: int
    max_gpu_hours: float
    max_cost: float
    keep_source_columns: bool
    passthrough_prefix: str
    append: str
    only_new: bool | str | Path


class RenderOptions(Options, total=False):
    """Keyword arguments of `render` alone."""

    wait_for_workers: str
    speculate: bool
    single_driver: bool
    allow_failed: int | str
    stop_after_failed: int | str
    stop_after: str
    drain: str
    gc: bool
    dashboard: bool


class ReworkOptions(TypedDict, total=False):
    """Keyword arguments of `retry` and `repair`: how they run, for what they draw is planned.

    `run` is `main` or the name of an appended run; `model` names the place of the planned
    weights, if they no longer lie where the plan found them; of a job file only keys count that
    are not of the plan.
    """

    run: str
    model: str
    models_dir: str
    job: str
    engine: Literal["auto", "ray", "inline"]
    workers: int | str
    address: str
    settings: Sequence[str] | Mapping[str, Any]
    wait_for_workers: str
    speculate: bool
    allow_failed: int | str
    stop_after: str
    drain: str
    gc: bool
    dashboard: bool
