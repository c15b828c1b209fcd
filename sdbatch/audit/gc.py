"""Deletes what a finished run left behind, and only then.

Before the success record stands, a file without a record may belong to an attempt that is
about to commit: deleting it would make a commit record name nothing. Afterwards every shard
has its record, nobody can win any more, and what no record names can never be named.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store


def collect_orphans(store: Store, run: str = layout.MAIN, dry_run: bool = False) -> list[str]:
    """Delete dataset files, parts and tokens of a run that no record names.

    Files of other runs and files that sdbatch did not name are left alone.
    Repeating it, or dying in the middle of it, does no harm.

    Returns:
        The keys, sorted; with `dry_run` they are only named.

    Raises:
        InputError: The run is not finished.
    """
    folder = RunFolder(store, run)
    if folder.success() is None:
        raise InputError(
            f"{store.url}: run '{run}' is not finished, what looks left over may be needed: "
            "finish it with sdbatch render first"
        )
    # Listed before the records are read: a file named by a later record is never at risk.
    found = [*find_files(store, run), *_scratch(store, run)]
    named = {file.key for record in folder.records() for _, file in record.files}
    orphans = sorted(key for key in found if key not in named)
    if not dry_run:
        for key in orphans:
            store.delete(key)
        for kind in layout.KINDS:
            store.sweep(layout.data_prefix(kind, run))
        store.sweep(layout.parts_prefix(run), deep=True)
    return orphans


def find_files(store: Store, run: str = layout.MAIN) -> Iterator[str]:
    """Keys of all dataset files of a run, named by a record or not."""
    for kind in layout.KINDS:
        for info in store.list(layout.data_prefix(kind, run)):
            if layout.parse_data(info.key, run):
                yield info.key


def _scratch(store: Store, run: str) -> Iterator[str]:
    for prefix in (layout.parts_prefix(run), layout.tokens_prefix(run)):
        for info in store.list(prefix):
            yield info.key
