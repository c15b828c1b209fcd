"""Which runs a dataset consists of: `main`, and those that were appended to it.

A run is appended by a mark in the state folder of `main`, created before anything else of
that run. So one short listing names all runs, on stores that know no folders too, and no run
stores anything that a listing would not lead to. Runs share no object but card and preview.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.record import PROTOCOL, to_line
from sdbatch.storage.store import Store
from sdbatch.storage.success import newest_success

SPLIT_WORDS = frozenset(
    [
        *("train", "training", "validation", "valid", "val", "dev"),
        *("test", "testing", "eval", "evaluation"),
    ]
)
"""Words that `datasets` takes for the name of a split wherever they stand in a path."""


def appended_runs(store: Store) -> list[str]:
    """Names of appended runs, begun or finished, sorted."""
    keys = (info.key for info in store.list(layout.run_marks_prefix()))
    return sorted(run for key in keys if (run := layout.parse_run_mark(key)) is not None)


def all_runs(store: Store) -> list[str]:
    """`main`, then the appended runs by name."""
    return [layout.MAIN, *appended_runs(store)]


def finished_runs(store: Store) -> dict[str, int]:
    """Run to the number of its newest success record, of all runs that have one."""
    numbers = {run: newest_success(store, run) for run in all_runs(store)}
    return {run: number for run, number in numbers.items() if number is not None}


def choose_runs(store: Store, run: str | None) -> list[str]:
    """The runs that a question is about: the named one, or all of them."""
    return all_runs(store) if run is None else [run]


def mark_run(store: Store, run: str) -> None:
    """Say that a run is appended; safe to repeat."""
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"protocol": PROTOCOL, "run": run, "created_at": created_at}
    store.create_once(layout.run_mark_key(run), to_line(body))


def demand_name(store: Store, run: str) -> None:
    """Refuse a name under which a run cannot be appended.

    Raises:
        InputError: It cannot stand in a key, is that of the first run, would be read as a
            split, or differs from that of another run only in its capitals.
    """
    layout.state_prefix(run)
    if run == layout.MAIN:
        raise InputError(
            "--append main: is the first run's own name, give another, such as 20261122"
        )
    words = SPLIT_WORDS & set(re.split(r"[^a-z]+", run.lower()))
    if words:
        raise InputError(
            f"--append {run}: readers take '{min(words)}' in a path for a split of the dataset, "
            "give another name, such as 20261122"
        )
    for other in appended_runs(store):
        if other != run and other.lower() == run.lower():
            raise InputError(
                f"--append {run}: run '{other}' stands here, and many disks take one name for "
                "the other: give another name"
            )
