"""The last steps of a finished dataset: what no record names goes, card and preview come.

All of it may be repeated, and the card is written last: where it is missing, a driver died
before it was done, and the next call makes up for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from sdbatch.audit.gc import collect_orphans
from sdbatch.engine import job_folder
from sdbatch.engine.picture_table import picture_table
from sdbatch.engine.publish import publish
from sdbatch.engine.summary import Summary
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.store import Store

S = TypeVar("S", bound=Summary)


def finish(
    store: Store,
    summary: S,
    *,
    collect: bool,
    note: Callable[[str], None],
    run: str = layout.MAIN,
) -> S:
    """Collect what no record names, write card and preview, and say where all of it is.

    Args:
        collect: Otherwise files of lost attempts stay, and the card lists the others by name.
        note: Told in a few lines.
        run: The one that ended.
    """
    stored = job_folder.read(store, run)
    table = picture_table(store, stored) if stored else None
    if collect:
        try:
            collect_orphans(store, run)
        except InputError as error:  # another driver has just begun a retry: its end collects
            note(f"note: nothing was collected ({error})")
            collect = False
    preview = publish(store, run, stored, collect, table) if stored else ""
    rate = f", {summary.images_per_s:.2f} images/s" if summary.images_per_s else ""
    filtered = f", {summary.filtered:,} filtered" if summary.filtered else ""
    note(
        f"{summary.done:,} of {summary.images:,} images done ({summary.success:,} success, "
        f"{summary.failed:,} failed{filtered}){rate}, {summary.seconds:.1f} s in all"
    )
    note(f"dataset: {summary.output}")
    if preview:
        note(f"look at: {preview}")
    return replace(summary, preview=preview)
