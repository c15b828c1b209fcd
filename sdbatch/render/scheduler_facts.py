"""Which schedulers of diffusers are tables: the facts that planning needs without torch.

`python -m sdbatch.render.scheduler_facts` prints them; `plan/facts.json` holds what it
printed, and a test compares the two, so a new diffusers release shows in a diff.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import diffusers

from sdbatch.errors import InputError, SchedulerNotLinearError
from sdbatch.render.schedulers import REFUSALS
from sdbatch.render.solver import SolverTable, build_table

STEPS = 12
OPTION_STEPS = 5
BASE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
}
"""Stable Diffusion's own noise schedule."""

PREDICTIONS = ("epsilon", "v_prediction")
"""What the model may give: an option counts as no table when it is none with either."""

SIGMAS_ALONE = ("IPNDMScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
"""Made for diffusion models although their configuration names no betas."""

REASONS = {
    "flow": "made for flow-matching models, not for a noise schedule in betas",
    "other": "made for another kind of model, not for a noise schedule in betas",
}


def scheduler_names() -> list[str]:
    """Class names of every PyTorch scheduler that diffusers offers."""
    return sorted(
        name
        for name in diffusers._import_structure["schedulers"]
        if name.endswith("Scheduler") and not name.startswith("Flax")
    )


def scheduler_facts(names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Scheduler to how rows are drawn with it.

    `way` is `tabled` for a table of coefficients, `grouped` for one that runs itself over
    rows of equal settings, `unfit` (with a `reason`) for one that cannot draw with a model
    of this kind. `kind` is `diffusion` for a noise schedule in betas, `flow` or `other`.
    `grouped_with` names options that make a tabled scheduler a grouped one: at which value,
    and what counts where none is stated. `options` are the keys `scheduler_config` may have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on configurations we only probe
        return {name: _facts(name) for name in names or scheduler_names()}


def _facts(name: str) -> dict[str, Any]:
    found: dict[str, Any]
    in_betas = _in_betas(name)
    try:
        table = build_table(name, BASE if in_betas else {}, {}, STEPS)
    except SchedulerNotLinearError as error:
        if in_betas:
            found = {"way": "grouped", "kind": "diffusion", "reason": error.reason}
            return found | {"options": _options(name)}
        return {"way": "unfit", "kind": "other", "reason": REASONS["other"]}
    except (InputError, *REFUSALS) as error:
        reason = str(error).split(f" refuses {STEPS} steps: ")[-1]
        kind = "diffusion" if in_betas else "other"
        return {"way": "unfit", "kind": kind, "reason": REASONS.get(kind, reason)}
    if not in_betas:
        kind = "flow"
        found = {"way": "unfit", "kind": kind, "history": table.history, "reason": REASONS[kind]}
        return found | {"options": _options(name)}
    if _inverse(table):
        reason = "runs from a picture to noise"
        return {"way": "unfit", "kind": "diffusion", "history": table.history, "reason": reason}
    found = {"way": "tabled", "kind": "diffusion", "history": table.history}
    untabled = _untabled_options(name)
    return found | {"options": _options(name)} | ({"grouped_with": untabled} if untabled else {})


def _in_betas(name: str) -> bool:
    """Whether the scheduler is made for a noise schedule in betas."""
    betas = "beta_schedule" in _parameters(name) or name in SIGMAS_ALONE
    return betas and "Flow" not in name


def _inverse(table: SolverTable) -> bool:
    return table.t[0] < table.t[-1]


def _untabled_options(name: str) -> dict[str, dict[str, bool]]:
    """Switches of a tabled scheduler at whose other position it is no table."""
    found = {}
    for option, parameter in _parameters(name).items():
        if not isinstance(parameter.default, bool):
            continue
        absent = parameter.default and option != "clip_sample"
        usual = BASE.get(option, absent)
        if all(_untabled(name, {option: not usual, **model}) for model in _models(name)):
            found[option] = {"at": not usual, "absent": absent}
    return found


def _models(name: str) -> list[dict[str, Any]]:
    if "prediction_type" not in _parameters(name):
        return [{}]
    return [{"prediction_type": prediction} for prediction in PREDICTIONS]


def _untabled(name: str, overrides: Mapping[str, Any]) -> bool:
    """Whether the setting is drawn with, but not as a table."""
    try:
        build_table(name, BASE, overrides, OPTION_STEPS)
    except SchedulerNotLinearError:
        return True
    except (InputError, *REFUSALS):
        return False
    return False


def _options(name: str) -> list[str]:
    return sorted(set(_parameters(name)) - {"self"})


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(diffusers, name).__init__).parameters


if __name__ == "__main__":
    sys.stdout.write(json.dumps(scheduler_facts(), indent=1, sort_keys=True) + "\n")
