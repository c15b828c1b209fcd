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
from sdbatch.render.solver import build_table

STEPS = 12
BASE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
}
"""Stable Diffusion's own noise schedule."""

SIGMAS_ALONE = ("IPNDMScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
"""Made for diffusion models although their configuration names no betas."""


def scheduler_names() -> list[str]:
    """Class names of every PyTorch scheduler that diffusers offers."""
    return sorted(
        name
        for name in diffusers._import_structure["schedulers"]
        if name.endswith("Scheduler") and not name.startswith("Flax")
    )


def scheduler_facts(names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Scheduler to how it is drawn with.

    `{"way": "tabled", "history": H, "kind": K}`, or `{"way": "grouped", "reason": ...}` for
    one that is no table and can only run in its own pipeline, rows of equal settings together.
    `kind` is `diffusion` for a noise schedule in betas and `flow` for all others.
    """
    facts: dict[str, dict[str, Any]] = {}
    for name in names or scheduler_names():
        kind = _kind(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice on configurations we only probe
                table = build_table(name, {} if kind == "flow" else BASE, {}, STEPS)
        except SchedulerNotLinearError as error:
            facts[name] = {"way": "grouped", "kind": kind, "reason": error.reason}
        except (InputError, ImportError, TypeError, AttributeError, ValueError) as error:
            facts[name] = {"way": "grouped", "kind": kind, "reason": str(error).split(": ")[-1]}
        else:
            facts[name] = {"way": "tabled", "kind": kind, "history": len(table.a[0])}
    return facts


def _kind(name: str) -> str:
    """`diffusion` for schedulers of a noise schedule in betas, `flow` for all others."""
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    betas = "beta_schedule" in parameters or name in SIGMAS_ALONE
    return "diffusion" if betas and "Flow" not in name else "flow"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(scheduler_facts(), indent=1, sort_keys=True) + "\n")
