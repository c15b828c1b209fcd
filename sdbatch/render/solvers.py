"""How each row's scheduler is run: found once per setting, kept for the rows that follow.

Most settings have a table (`solver.py`) and their rows mix in lanes (`denoiser.py`). A
scheduler that is no table is run itself, over rows of equal settings (`grouped.py`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdbatch.errors import InputError, SchedulerNotLinearError
from sdbatch.records import RenderRow
from sdbatch.render.denoiser import pack_table
from sdbatch.render.schedulers import SchedulerSetting, scheduler_setting
from sdbatch.render.solver import SolverTable, build_table

KEPT = 512
"""Settings whose solver is kept; the one not used for longest leaves first."""


@dataclass(frozen=True, slots=True, eq=False)
class Tabled:
    """A setting with a table.

    Attributes:
        table: The coefficients.
        packed: The same, as lanes use them.
    """

    table: SolverTable
    packed: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Untabled:
    """A setting without one.

    Attributes:
        setting: What makes its scheduler.
        steps: Model evaluations from the first latents to the last.
    """

    setting: SchedulerSetting
    steps: int


class Solvers:
    """Finds the solver of a row.

    Args:
        scheduler_config: The model's own.
    """

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self._scheduler_config = scheduler_config
        self._kept: OrderedDict[tuple[str, str, int], Tabled | Untabled] = OrderedDict()

    def find(self, row: RenderRow) -> Tabled | Untabled:
        """The solver of the row's setting.

        Raises:
            InputError: Scheduler or configuration are unknown, or it refuses the setting.
        """
        key = (row.scheduler, row.scheduler_config, row.num_inference_steps)
        if key not in self._kept:
            self._kept[key] = self._make(row)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def setting_of(self, row: RenderRow) -> SchedulerSetting:
        """The row's scheduler: the model's configuration with the row's overrides in it.

        Raises:
            InputError: Scheduler or configuration are unknown.
        """
        return scheduler_setting(*self._asked(row))

    def _make(self, row: RenderRow) -> Tabled | Untabled:
        asked = self._asked(row)
        try:
            table = build_table(*asked)
        except SchedulerNotLinearError:
            setting = scheduler_setting(*asked)
            return Untabled(setting, len(setting.make().timesteps))
        return Tabled(table, pack_table(table))

    def _asked(self, row: RenderRow) -> tuple[str, Mapping[str, Any], Mapping[str, Any], int]:
        overrides = _overrides(row.scheduler_config)
        return (row.scheduler, self._scheduler_config, overrides, row.num_inference_steps)


def _overrides(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        overrides = json.loads(text)
    except ValueError as error:
        raise InputError(f"scheduler_config: no JSON ({error})") from error
    if not isinstance(overrides, dict):
        raise InputError("scheduler_config: must be a JSON object")
    return overrides
