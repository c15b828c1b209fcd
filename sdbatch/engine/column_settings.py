"""How the columns of a manifest are shown, as settings of a plan.

They decide which columns a dataset has, so a plan holds them; no job key does, since they
belong to the call that names the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdbatch.errors import JobError
from sdbatch.manifest.aliases import renamed
from sdbatch.manifest.opening import Shown
from sdbatch.plan.settings import Resolved
from sdbatch.records import ColumnView

KEEP, PREFIX = "manifest.keep_source_columns", "manifest.passthrough_prefix"
FLAGS = {KEEP: "--keep-source-columns", PREFIX: "--passthrough-prefix"}


def said_columns(
    keep_source_columns: bool | None, passthrough_prefix: str | None
) -> dict[str, Any]:
    """Setting to what a call says of it; what it leaves open is absent.

    Raises:
        JobError: The prefix cannot begin a column name.
    """
    if passthrough_prefix is not None and not passthrough_prefix.isidentifier():
        raise JobError(f"{FLAGS[PREFIX]}: {passthrough_prefix!r}: must begin a name, such as in_")
    said = {KEEP: keep_source_columns, PREFIX: passthrough_prefix}
    return {key: value for key, value in said.items() if value is not None}


def shown_columns(said: Mapping[str, Any], stored: Mapping[str, Any]) -> Shown:
    """How columns are shown: what the call says, then what the plan that stands says."""
    chosen = {**stored, **said}
    return Shown(bool(chosen.get(KEEP, False)), str(chosen.get(PREFIX, "")))


def with_columns(resolved: Resolved, said: Mapping[str, Any]) -> Resolved:
    """The settings with these among them."""
    for key, value in said.items():
        resolved = resolved.with_value(key, value, FLAGS[key])
    return replace(resolved, explicit=resolved.explicit | said.keys())


def columns_notes(view: Sequence[ColumnView]) -> list[str]:
    """One line that says which columns are read under which names; none when all bear theirs."""
    found = renamed(view)
    if not found:
        return []
    return ["columns: " + ", ".join(f"'{stored}' is {name}" for stored, name in found.items())]
