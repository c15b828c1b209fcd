"""How each row's scheduler is run: found once per setting and process, kept for later rows.

Most settings have a table (`solver.py`) and their rows mix in lanes (`denoiser.py`). A
scheduler that is no table is run itself, over rows of equal settings (`grouped.py`). What
a setting needs is worked out on one thread, ahead of the rows that wait, so that a pass
need not stand still for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdbatch.errors import InputError, SchedulerNotLinearError
from sdbatch.records import RenderRow
from sdbatch.render.denoiser import pack_table
from sdbatch.render.device import use_threads
from sdbatch.render.schedulers import SchedulerSetting, Timing, scheduler_setting
from sdbatch.render.solver import SolverTable, build_table
from sdbatch.render.waiting import Size, size_of

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


@dataclass(frozen=True, slots=True)
class _Refused:
    """A setting that no row can be drawn with, and why."""

    reason: str


Asked = tuple[str, str, str, int, Timing]
"""Scheduler, the model's configuration and the row's as JSON, steps, and how they lie."""
Found = Tabled | Untabled | _Refused


class _Shelf:
    """Solvers of this process, whatever model they were asked for with; bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Asked, Future[Found]] = OrderedDict()
        self._maker: ThreadPoolExecutor | None = None

    def get(self, asked: Asked, make: Callable[[], Found]) -> Future[Found]:
        """What is kept for a setting, or soon will be: `make` then runs on the one thread."""
        with self._lock:
            if asked not in self._kept:
                if self._maker is None:
                    self._maker = ThreadPoolExecutor(1, "solvers", lambda: use_threads(1))
                self._kept[asked] = self._maker.submit(make)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(asked)
            return self._kept[asked]

    def drop(self, asked: Asked) -> None:
        """Forget a setting, so that it is made anew."""
        with self._lock:
            self._kept.pop(asked, None)


SHELF = _Shelf()


class Solvers:
    """Finds the solver of a row.

    Args:
        scheduler_config: The model's own.
        timing: (size, steps) to how the model's family wants them to lie.
        spent: Told the seconds that each setting took, on the thread that makes them.
    """

    def __init__(
        self,
        scheduler_config: Mapping[str, Any],
        spent: Callable[[float], None] = lambda _: None,
        timing: Callable[[Size, int], Timing] = lambda _, __: Timing(),
    ) -> None:
        self._scheduler_config = scheduler_config
        self._timing = timing
        self._config_text = json.dumps(dict(scheduler_config), sort_keys=True, default=str)
        self._spent = spent

    def ahead(self, row: RenderRow) -> Tabled | Untabled | None:
        """The solver of the row's setting if it is there; else it will be, a little later.

        Raises:
            InputError: Scheduler or configuration are unknown, or it refuses the setting.
        """
        future = self._future(row)
        return self._result(row, future) if future.done() else None

    def find(self, row: RenderRow) -> Tabled | Untabled:
        """The solver of the row's setting; waits until it is there.

        Raises:
            InputError: Scheduler or configuration are unknown, or it refuses the setting.
        """
        return self._result(row, self._future(row))

    def setting_of(self, row: RenderRow) -> SchedulerSetting:
        """The row's scheduler: the model's configuration with the row's overrides in it.

        Raises:
            InputError: Scheduler or configuration are unknown.
        """
        name, config, overrides, steps, timing = self._settings(row)
        return scheduler_setting(name, config, overrides, steps, timing=timing)

    def _asked(self, row: RenderRow) -> Asked:
        steps = row.num_inference_steps
        timing = self._timing(size_of(row), steps)
        return (row.scheduler, self._config_text, row.scheduler_config, steps, timing)

    def _future(self, row: RenderRow) -> Future[Found]:
        return SHELF.get(self._asked(row), lambda: self._make(row))

    def _result(self, row: RenderRow, future: Future[Found]) -> Tabled | Untabled:
        try:
            found = future.result()
        except BaseException:  # no memory, say: nothing that is true of the setting
            SHELF.drop(self._asked(row))
            raise
        if isinstance(found, _Refused):
            raise InputError(found.reason)
        return found

    def _make(self, row: RenderRow) -> Found:
        started = time.perf_counter()
        try:
            name, config, overrides, steps, timing = self._settings(row)
            try:
                table = build_table(name, config, overrides, steps, timing=timing)
            except SchedulerNotLinearError:
                setting = scheduler_setting(name, config, overrides, steps, timing=timing)
                return Untabled(setting, len(setting.make().timesteps))
            return Tabled(table, pack_table(table))
        except InputError as error:
            return _Refused(str(error))
        finally:
            self._spent(time.perf_counter() - started)

    def _settings(
        self, row: RenderRow
    ) -> tuple[str, Mapping[str, Any], Mapping[str, Any], int, Timing]:
        overrides, steps = _overrides(row.scheduler_config), row.num_inference_steps
        timing = self._timing(size_of(row), steps)
        return (row.scheduler, self._scheduler_config, overrides, steps, timing)


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
