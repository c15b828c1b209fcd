"""What rows say of their scheduler, read in every program's words; each saying is judged once.

A scheduler is said in up to three columns: its name, the spacing of its steps, and options. A
batch holds few different sayings, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.manifest.scheduler_names import choose_scheduler, schedule_type_fault
from sdbatch.manifest.schema import json_object_fault, option_fault

Mask = NDArray[np.bool_]
SCHEDULER_COLUMNS = ("scheduler", "schedule_type", "scheduler_config")


def scheduler_faults(
    table: pa.Table, usual: str, options: Mapping[str, Collection[str]]
) -> Iterator[tuple[Mask, str, str]]:
    """(rows, column, reason) of every saying that no scheduler can follow.

    Names that nobody knows are not judged here, nor options that are no JSON object.

    Args:
        table: Canonical columns.
        usual: The scheduler of rows that name none.
        options: Class name to the keys its configuration may have.
    """
    for saying, rows in _sayings(table):
        name, spacing, config = (saying.get(column) or "" for column in SCHEDULER_COLUMNS)
        fault = schedule_type_fault(spacing)
        if fault:
            yield rows(), "schedule_type", fault
            continue
        if json_object_fault(config or "{}"):
            continue
        choice = choose_scheduler(name or usual, spacing, config)
        fault = option_fault(choice.scheduler, choice.config, options)
        if fault and (name or spacing or config):
            yield rows(), _blamed(fault, config, spacing), fault


def scheduler_settings(table: pa.Table, usual: str) -> Iterator[tuple[tuple[str, str], int]]:
    """Each (class name, options as JSON) of a batch and its rows; empty where rows say nothing.

    Args:
        table: Canonical columns.
        usual: The scheduler of rows that name none and say how its steps are spaced.
    """
    if not any(name in table.column_names for name in SCHEDULER_COLUMNS):
        yield ("", ""), table.num_rows
        return
    for saying, _ in _sayings(table):
        name, spacing, config = (saying.get(column) or "" for column in SCHEDULER_COLUMNS)
        if name or spacing:
            choice = choose_scheduler(name or usual, spacing, config)
            yield (choice.scheduler, choice.config), saying["count_all"]
        else:
            yield ("", config), saying["count_all"]


class _Rows:
    """The rows of a batch with one saying, found only when they are asked for."""

    def __init__(self, texts: pa.Table, saying: Mapping[str, str | None]) -> None:
        self._texts, self._saying = texts, saying

    def __call__(self) -> Mask:
        mask = np.ones(self._texts.num_rows, np.bool_)
        for name in self._texts.column_names:
            mask &= pc.equal(self._texts.column(name), self._saying[name] or "").to_numpy()
        return mask


def _sayings(table: pa.Table) -> Iterator[tuple[dict[str, Any], _Rows]]:
    names = [name for name in SCHEDULER_COLUMNS if name in table.column_names]
    texts = pa.table(
        [pc.fill_null(table.column(name).cast(pa.string()), "") for name in names], names=names
    )
    for saying in texts.group_by(names).aggregate([([], "count_all")]).to_pylist():
        yield saying, _Rows(texts, saying)


def _blamed(fault: str, config: str, spacing: str) -> str:
    """The column that brought the option a scheduler does not take."""
    key = fault.partition("'")[2].partition("'")[0]
    if f'"{key}"' in config:
        return "scheduler_config"
    return "schedule_type" if spacing else "scheduler"
