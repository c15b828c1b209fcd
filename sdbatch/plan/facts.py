"""What planning knows of schedulers, generated from the real ones into `facts.json`.

Most schedulers are tables, whose rows mix freely. A few settings are none, and their rows
are drawn in groups of equal settings; a person is told, for groups leave lanes empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from sdbatch.manifest.scheduler_names import choose_scheduler, names_of
from sdbatch.records import ModelFacts

FACTS: dict[str, dict[str, Any]] = json.loads(
    files("sdbatch.plan").joinpath("facts.json").read_text(encoding="utf-8")
)
"""Scheduler class name to `way`, `kind`, `history`, `reason`, `options`, `grouped_with`.

`way` is `tabled`, `grouped` or `unfit`; see `render/scheduler_facts.py`.
"""

FOR_NOISE = "made for models of noise, this one says a flow's velocity"

DRAWABLE = frozenset(name for name, fact in FACTS.items() if fact["way"] != "unfit")
"""Schedulers that rows of a Stable Diffusion model can name."""

UNFIT: Mapping[str, str] = {
    name: fact["reason"] for name, fact in FACTS.items() if fact["way"] == "unfit"
}
"""Schedulers of diffusers that they cannot, with the reason."""

FLOWING = frozenset(
    name
    for name, fact in FACTS.items()
    if name.startswith("FlowMatch") or (name in DRAWABLE and "use_flow_sigmas" in fact["options"])
)
"""Schedulers that rows of a flow-matching model can name: those for flows, solvers for both."""

NO_FLOW: Mapping[str, str] = {
    name: FOR_NOISE if fact["kind"] == "diffusion" else "made for another kind of model"
    for name, fact in FACTS.items()
    if name not in FLOWING
}
"""Schedulers of diffusers that they cannot, with the reason."""


def schedulers_of(model: ModelFacts) -> tuple[frozenset[str], Mapping[str, str]]:
    """Schedulers that rows of a model can name, and those that they cannot, with the reason."""
    only = model.only.get("defaults.scheduler")
    if only is None:
        return (FLOWING, NO_FLOW) if model.flow else (DRAWABLE, UNFIT)
    reason = f"{model.pipeline_class} is written for {' and '.join(only)}"
    return frozenset(only), {name: reason for name in FACTS if name not in only}


OPTIONS: Mapping[str, frozenset[str]] = {
    name: frozenset(FACTS[name]["options"]) for name in (*DRAWABLE, *FLOWING)
}
"""What `scheduler_config` may hold for each scheduler."""


def aliases(name: str) -> tuple[str, ...]:
    """Other names a row may use for a scheduler."""
    return names_of(name)


def untabled_reason(scheduler: str, config: Mapping[str, Any]) -> str:
    """Why a setting is drawn in groups; empty for one that is a table.

    Args:
        scheduler: Class name.
        config: The model's scheduler configuration with the row's overrides in it.
    """
    fact = FACTS.get(scheduler, {})
    if fact.get("way") == "grouped":
        return str(fact["reason"])
    for option, switch in fact.get("grouped_with", {}).items():
        value = config.get(option)
        if bool(switch["absent"] if value is None else value) == switch["at"]:
            return f"with {option} {str(switch['at']).lower()}"
    return ""


@lru_cache(maxsize=4096)
def row_untabled(scheduler: str, scheduler_config: str) -> bool:
    """Whether a row's own words make its scheduler one without a table."""
    overrides = _object(scheduler_config)
    stated = FACTS.get(scheduler, {}).get("grouped_with", {}).keys() & overrides.keys()
    return bool(untabled_reason(scheduler, overrides)) if stated else False


def grouped_notes(
    settings: Mapping[tuple[str, str], int], model_config: Mapping[str, Any]
) -> list[str]:
    """A sentence for each scheduler whose rows are drawn in groups.

    Args:
        settings: (scheduler, scheduler_config as JSON) to how many rows have it.
        model_config: The model's own scheduler configuration.
    """
    rows: dict[tuple[str, str], int] = {}
    for (scheduler, config), count in settings.items():
        choice = choose_scheduler(scheduler, "", config)
        name = choice.scheduler
        reason = untabled_reason(name, {**model_config, **_object(choice.config)})
        if reason:
            rows[name, reason] = rows.get((name, reason), 0) + count
    return [
        f"scheduler {name} is drawn in groups of equal settings: no table ({reason}), "
        + ("1 row" if count == 1 else f"{count:,} rows")
        for (name, reason), count in sorted(rows.items())
    ]


def _object(text: str) -> Mapping[str, Any]:
    """The JSON object in a text; empty when there is none."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
