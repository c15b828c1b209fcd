"""Every setting of a run with its value and who set it: asked, model or default.

Some values are known late: a first worker finds what `auto` means for dtype and lanes; until
then they are null. On a resume what was planned stands, and only what a person says
explicitly and differently is refused, all differences at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdbatch.errors import JobError
from sdbatch.job import Asked
from sdbatch.manifest.faults import NO_TRUE_CFG, only_fault, size_fault
from sdbatch.manifest.micro_conditioning import NOT_TOLD, micro_fault, one_spelling
from sdbatch.manifest.prompt_syntax import A1111, parse_prompt, prompt_fault
from sdbatch.manifest.scheduler_names import choose_scheduler
from sdbatch.manifest.schema import (
    MAX_SIZE_PX,
    TASK,
    option_fault,
    scheduler_class,
    scheduler_fault,
)
from sdbatch.model_specs import Speed
from sdbatch.plan.facts import OPTIONS, schedulers_of
from sdbatch.plan.fingerprint import canonical, plan_id
from sdbatch.records import ManifestRef, ModelFacts, RowDefaults

LATE = frozenset({"render.dtype", "render.batch_size", "shards.size"})
"""Settings that `auto` leaves null until a worker, or the cutting of shards, settles them."""
PLAIN = (
    *("output", "seed", "limit", "image.format", "image.png_level", "image.png_strategy"),
    *("image.metadata", "image.quality", "image.lossless", "image.chroma", "image.save_size"),
    "caption_column",
    *("format", "captions", "class_label", "license"),
    *("render.device", "render.batch_size", "render.dtype", "render.cpu_threads", "render.compile"),
    *("render.channels_last", "render.fuse_qkv", "render.attention", "render.tf32"),
    *("render.lossy", "render.strict_pixels", "render.memory", "render.quantize", "vae"),
    *("shards.size", "workers.min", "workers.max", "workers.wait_s", "engine"),
    *("checkpoint_every_s", "retries", "failures.allow", "failures.stop_after", "canary"),
    *("speculate", "single_driver"),
    *("scores", "safety", "filter", "best_of", "best_by"),
)
"""Job keys taken over as they are. `storage` is left out: it may hold credentials."""
ROW_SETTINGS = tuple(RowDefaults.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Setting:
    """A resolved value and where it comes from (`--steps`, `model shapes`, `default`)."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """All settings of a run by dotted key.

    Attributes:
        settings: Key to setting, in the order `plan` shows them.
        explicit: Keys whose value a person gave; `auto` counts as not given.
        notes: Sentences about what was taken over from an earlier plan.
    """

    settings: Mapping[str, Setting]
    explicit: frozenset[str]
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> Any:
        """The value under a dotted key."""
        return self.settings[key].value

    def values(self) -> dict[str, Any]:
        """Key to value: what a job record stores and `resume` compares with."""
        return {key: setting.value for key, setting in self.settings.items()}

    def sources(self) -> dict[str, str]:
        """Key to source."""
        return {key: setting.source for key, setting in self.settings.items()}

    def unsettled(self) -> tuple[str, ...]:
        """Late settings that still wait for their value."""
        return tuple(key for key in sorted(LATE) if self.value(key) is None)

    def with_value(self, key: str, value: Any, source: str) -> Resolved:
        """The same settings with one more, or one changed."""
        return replace(self, settings={**self.settings, key: Setting(value, source)})

    def settle(self, dtype: str, lanes: Mapping[str, int], device: str = "") -> Resolved:
        """Fill in what a worker found for `auto`; what stands already stays."""
        settled = self
        if self.value("render.device") == "auto" and device:
            settled = settled.with_value("render.device", device, "first worker")
        if self.value("render.dtype") is None:
            settled = settled.with_value("render.dtype", dtype, "first worker")
        if self.value("render.batch_size") is None:
            settled = settled.with_value("render.batch_size", dict(lanes), "first worker")
        return settled

    def lanes(self, sizes: Iterable[str]) -> dict[str, int]:
        """L per picture size; empty until a worker has settled it."""
        asked = self.value("render.batch_size")
        if isinstance(asked, int):
            return dict.fromkeys(sizes, asked)
        return dict(asked or {})

    def plan_id(self) -> str:
        """Fingerprint of the settings that count, `plan/fingerprint.py`."""
        return plan_id(self.values())


def resolve(
    asked: Asked,
    model: ModelFacts,
    manifest: ManifestRef,
    *,
    hash_rows: bool = True,
    schedulers: frozenset[str] = frozenset(),
) -> Resolved:
    """Resolve every setting: what was asked, then what the model says, then the default.

    Args:
        asked: The checked job and who said what.
        model: The model's own defaults and limits.
        manifest: What is drawn.
        hash_rows: Whether rows without id are known by content (False: unchecked).
        schedulers: Class names that can be drawn with; empty leaves that to the worker.

    Raises:
        JobError: A default is not one this model can draw with.
    """
    said = asked.sources
    schedulers = schedulers and schedulers_of(model)[0]
    settings = {
        "manifest": Setting(manifest.name, said.get("manifest", "default")),
        "manifest.identity": Setting(manifest.identity, f"manifest {manifest.name}"),
        "manifest.hash_rows": Setting(hash_rows, "default" if hash_rows else "--no-check"),
        "manifest.keep_source_columns": Setting(False, "default"),
        "manifest.passthrough_prefix": Setting("", "default"),
        "task": Setting(TASK, "default"),
        "model": Setting(model.name, _named(asked, model)),
        "model.revision": Setting(model.revision, f"model {model.name}"),
    }
    for name in ROW_SETTINGS:
        setting = _row_setting(name, asked, model)
        _demand_drawable(name, setting, model, schedulers)
        settings[f"defaults.{name}"] = setting
    _demand_prompt(settings["defaults.negative_prompt"], settings["defaults.prompt_syntax"])
    if schedulers:
        _demand_options(settings["defaults.scheduler"], settings["defaults.scheduler_config"])
    for key in PLAIN:
        value = asked.value(key)
        late = key in LATE and value == "auto"
        settings[key] = Setting(None if late else value, said.get(key, "default"))
    _demand_only(settings, model)
    explicit = frozenset(key for key in said if asked.value(key) != "auto")
    return Resolved(settings, explicit)


def row_defaults(resolved: Resolved) -> RowDefaults:
    """Settings for rows that do not say otherwise."""
    return RowDefaults(**{name: resolved.value(f"defaults.{name}") for name in ROW_SETTINGS})


def speed_switches(resolved: Resolved) -> Speed:
    """What makes the renderer faster."""
    return Speed(**{name: resolved.value(f"render.{name}") for name in Speed.__dataclass_fields__})


def _named(asked: Asked, model: ModelFacts) -> str:
    """Who named the model, and how, where it has another name for everyone."""
    said, name = asked.sources.get("model", "default"), asked.value("model")
    return said if name == model.name else f"{said} {name}"


def _row_setting(name: str, asked: Asked, model: ModelFacts) -> Setting:
    key = f"defaults.{name}"
    value = asked.value(key)
    if value is None:
        source = model.sources.get(name, f"model {model.name}")
        return Setting(getattr(model.defaults, name), source)
    if name == "true_cfg_scale" and value == 1 and model.defaults.true_cfg_scale is None:
        value = None  # what it says is true of every such model
    if name == "scheduler":
        # A name that stands for options too stays as it is: rows that name their own scheduler
        # must not inherit those options.
        choice = choose_scheduler(value)
        value = value if choice.config else choice.scheduler
    if name == "micro_conditioning":
        value = one_spelling(value)
    if name == "scheduler_config":
        value = canonical(value).decode() if value else ""
    return Setting(value, asked.sources.get(key, "default"))


def _demand_drawable(
    name: str, setting: Setting, model: ModelFacts, schedulers: frozenset[str]
) -> None:
    for fault in _faults(name, setting.value, model, schedulers):
        raise JobError(f"{setting.source}: defaults.{name}: {setting.value}: {fault}")


def _demand_only(settings: Mapping[str, Setting], model: ModelFacts) -> None:
    for key, values in model.only.items():
        setting = settings.get(key)
        if setting is not None and setting.value not in values:
            fault = only_fault(values)
            raise JobError(f"{setting.source}: {key}: {setting.value}: {fault}")


def _demand_prompt(negative: Setting, syntax: Setting) -> None:
    fault = prompt_fault(parse_prompt(negative.value)) if syntax.value == A1111 else ""
    if fault:
        raise JobError(f"{negative.source}: defaults.negative_prompt: {negative.value}: {fault}")


def _demand_options(scheduler: Setting, config: Setting) -> None:
    choice = choose_scheduler(scheduler.value, "", config.value)
    fault = option_fault(choice.scheduler, choice.config, OPTIONS)
    if fault and not config.value:
        raise JobError(f"{scheduler.source}: defaults.scheduler: {scheduler.value}: {fault}")
    if fault:
        raise JobError(f"{config.source}: defaults.scheduler_config: {fault}")


def _faults(name: str, value: Any, model: ModelFacts, schedulers: frozenset[str]) -> Iterator[str]:
    if name in ("width", "height"):
        step, most = model.size_multiple_px, model.max_size_px or MAX_SIZE_PX
        if value % step or not step <= value <= most:
            yield size_fault(value, step, most)
    if name == "num_inference_steps" and not 1 <= value <= model.num_train_timesteps:
        yield f"must be a whole number from 1 to {model.num_train_timesteps}"
    if name == "true_cfg_scale" and value is not None and model.defaults.true_cfg_scale is None:
        yield NO_TRUE_CFG
    if name == "micro_conditioning" and value:
        fault = NOT_TOLD if model.defaults.micro_conditioning is None else micro_fault(value)
        if fault:
            yield fault
    if name == "scheduler" and schedulers and scheduler_class(value) not in schedulers:
        yield scheduler_fault(value, schedulers, schedulers_of(model)[1])
