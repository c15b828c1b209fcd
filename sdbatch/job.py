"""A job: everything a person can ask of a run, in one checked tree.

The keys are frozen: a job file written today is read by every later version. Unknown
keys are refused with the nearest known name. Layers (job file, `--set`, flags) are
merged key by key; `Asked.sources` remembers which layer spoke last, because on a
resume only what was said explicitly may contradict what stands in the folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from sdbatch.errors import JobError

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cuda", "mps", "xpu", "cpu")
MEMORY = ("auto", "resident", "rooms", "offload")
QUANTIZE = ("int8", "nf4")
ENGINES = ("auto", "ray", "inline")
PROMPT_SYNTAXES = ("plain", "a1111")
FORMATS = ("parquet", "webdataset", "files")
CAPTIONS = ("txt",)
IMAGE_FORMATS = ("png", "jpeg", "webp", "avif", "jxl")
CHROMAS = ("420", "422", "444")
MAX_SAVED_PX = 16_383  # WebP takes no more
PICTURE_METADATA = ("infotext", "minimal", "none")
ATTENTION = ("auto", "sdpa", "math", "flash", "efficient", "cudnn")
Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(ge=1)]


def _share(text: str) -> str:
    """A share of all pictures is at most all of them."""
    if text.endswith("%") and float(text[:-1]) > 100:
        raise ValueError("use at most 100%")
    return text


Tolerance = Annotated[
    str,
    BeforeValidator(str),
    Field(pattern=r"^\d+%?$|^\d+\.\d+%$"),
    AfterValidator(_share),
]


def _lossy_names(value: Any) -> Any:
    """One text in one order, of a list or a text with commas; each switch may be named once."""
    names = value.split(",") if isinstance(value, str) and value else value or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return value  # refused by its type
    names = sorted(name.strip() for name in names)
    if any(re.fullmatch(r"fp8|deepcache:([2-9]|1\d|20)", name) is None for name in names):
        raise ValueError("use fp8, or deepcache:N with N from 2 to 20, or both with a comma")
    if len({name.partition(":")[0] for name in names}) < len(names):
        raise ValueError("each switch may be named once")
    return ",".join(names)


Lossy = Annotated[str, BeforeValidator(_lossy_names)]


def _save_size(text: str) -> str:
    """A picture size in its one spelling."""
    match = re.fullmatch(r"0*([1-9]\d{0,4})[xX]0*([1-9]\d{0,4})", text.strip())
    if match is None or max(int(side) for side in match.groups()) > MAX_SAVED_PX:
        raise ValueError(f"write WIDTHxHEIGHT up to {MAX_SAVED_PX} pixels, such as 256x256")
    return f"{match[1]}x{match[2]}"


class Keys(BaseModel):
    """A level of the tree: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Defaults(Keys):
    """Settings for rows that do not say otherwise; null leaves them to the model."""

    negative_prompt: str | None = None
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    num_inference_steps: PositiveInt | None = None
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    true_cfg_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    scheduler: str | None = None
    scheduler_config: dict[str, Any] | None = None
    num_images_per_prompt: Annotated[int, Field(ge=1, le=1000)] | None = None
    prompt_syntax: Literal["plain", "a1111"] | None = None
    micro_conditioning: dict[str, Any] | None = None


class Image(Keys):
    """How pictures are encoded."""

    format: Literal["png", "jpeg", "webp", "avif", "jxl"] = "png"
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    lossless: bool = False
    chroma: Annotated[Literal["420", "422", "444"], BeforeValidator(str)] | None = None
    png_level: Annotated[int, Field(ge=0, le=9)] | Auto = "auto"
    png_strategy: Annotated[int, Field(ge=0, le=4)] | Auto = "auto"
    save_size: Annotated[str, AfterValidator(_save_size)] | None = None
    metadata: Literal["infotext", "minimal", "none"] = "infotext"


class Render(Keys):
    """How pictures are drawn."""

    batch_size: PositiveInt | Auto = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cuda", "mps", "xpu", "cpu"] = "auto"
    cpu_threads: PositiveInt = 1
    memory: Literal["auto", "resident", "rooms", "offload"] = "auto"
    quantize: Literal["", "int8", "nf4"] = ""
    compile: bool = False
    channels_last: bool | Auto = "auto"
    fuse_qkv: bool = False
    attention: Literal["auto", "sdpa", "math", "flash", "efficient", "cudnn"] = "auto"
    tf32: bool = False
    lossy: Lossy = ""
    strict_pixels: bool = False


class Shards(Keys):
    """How rows are cut."""

    size: PositiveInt | Auto = "auto"


class Workers(Keys):
    """How many processes draw; each holds one GPU, or `cpu_threads` threads.

    A run begins with the first one, wants `max`, and ends when fewer than `min` are up for
    longer than `wait_s`.
    """

    min: PositiveInt = 1
    max: PositiveInt | Auto = "auto"
    wait_s: Annotated[float, Field(gt=0)] = 1800.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max != "auto" and self.min > self.max:
            raise ValueError(f"the minimum is {self.min}, above the maximum {self.max}")
        return self


class Failures(Keys):
    """How many failed rows a run may have: a number, or a share of its pictures (`1%`)."""

    allow: Tolerance = "0"
    stop_after: Tolerance | None = None


class Job(Keys):
    """A whole job. Positional arguments and flags override its keys."""

    manifest: str | None = None
    output: str | None = None
    model: str = "shapes"
    models_dir: str = ""
    vae: str = ""
    defaults: Defaults = Defaults()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: PositiveInt | None = None
    image: Image = Image()
    format: Literal["parquet", "webdataset", "files"] = "parquet"
    captions: Literal["", "txt"] = ""
    class_label: str = ""
    caption_column: str = ""
    license: str = ""
    render: Render = Render()
    shards: Shards = Shards()
    workers: Workers = Workers()
    engine: Literal["auto", "ray", "inline"] = "auto"
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 3
    failures: Failures = Failures()
    canary: bool = True
    speculate: bool = True
    single_driver: bool = False
    scores: dict[str, str] = {}
    safety: str = "none"
    filter: str = ""
    best_of: Annotated[int, Field(ge=2, le=1000)] | None = None
    best_by: str = ""
    storage: dict[str, Any] = {}


RESERVED = {
    "adapters": "this version draws without adapters",
    "inputs": "this version takes no input pictures",
    "schedule": "this version starts runs by hand only",
    "on_finish": "this version ends with the run",
}
"""Keys of the frozen tree that this version knows and cannot honour: refused, never ignored."""


FREE_FORM = ("storage", "defaults.scheduler_config", "defaults.micro_conditioning", "scores")
"""Keys that hold a tree of names which are not ours."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked job and who said what.

    Attributes:
        job: All layers merged.
        sources: Dotted key to the layer that set it (`--steps`, `job file night.yaml`);
            keys that nobody set are absent.
    """

    job: Job
    sources: Mapping[str, str]

    def value(self, key: str) -> Any:
        """The value under a dotted key."""
        node: Any = self.job
        for part in key.split("."):
            node = getattr(node, part)
        return node


def ask(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Asked:
    """Merge layers of dotted or nested keys, later ones winning, and check the result.

    Args:
        layers: (name of the layer as messages show it, its keys).

    Raises:
        JobError: A key is unknown (the nearest known one is named) or a value impossible.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, layer in layers:
        for key, value in flatten(layer):
            free = next((free for free in FREE_FORM if key.startswith(f"{free}.")), "")
            if free:
                branch = _nest({key.removeprefix(f"{free}."): value})
                values[free] = {**(values.get(free) or {}), **branch}
                sources[free] = name
                continue
            if key in RESERVED:
                raise JobError(f"{name}: {key}: {RESERVED[key]}, leave the key out")
            if key not in KEYS:
                raise JobError(f"{name}: unknown key '{key}'{nearest(key, KEYS)}")
            values[key] = value
            sources[key] = name
    try:
        return Asked(Job.model_validate(_nest(values)), sources)
    except ValidationError as error:
        raise JobError("; ".join(_lines(error, sources))) from error


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every leaf; free-form keys (`storage`) stay whole."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and dotted not in KEYS and dotted not in RESERVED:
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def nearest(word: str, known: Sequence[str] | frozenset[str]) -> str:
    """`, did you mean 'x'?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def _dotted(level: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in level.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _dotted(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        *parents, leaf = dotted.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _lines(error: ValidationError, sources: Mapping[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    for fault in error.errors(include_url=False):
        key = next(
            (k for k in KEYS if k.split(".") == [str(p) for p in fault["loc"]][: k.count(".") + 1]),
            ".".join(str(part) for part in fault["loc"]),
        )
        if key not in seen:
            seen.add(key)
            message = fault["msg"][0].lower() + fault["msg"][1:]
            yield f"{sources.get(key, 'job')}: {key}: {message}, got {fault['input']!r}"


KEYS = frozenset(_dotted(Job))
"""Every dotted key a job file or `--set` may hold."""
