"""Deletes what a finished run left behind, and only then.

Before the success record stands, a file without a record may belong to an attempt that is
about to commit: deleting it would make a commit record name nothing. Afterwards every shard
has its record, nobody can win any more, and what no record names can never be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdbatch.errors import DamagedError, InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store


def collect_orphans(store: Store, run: str = layout.MAIN, dry_run: bool = False) -> list[str]:
    """Delete dataset files, parts and tokens of a run that no record names.

    Temporary files of killed writers go too, from the run's folders of files and of state.
    Files of other runs and files that sdbatch did not name are left alone.
    Repeating it, or dying in the middle of it, does no harm.

    Returns:
        The keys, sorted; with `dry_run` they are only named.

    Raises:
        InputError: The run is not finished.
        DamagedError: Its commit records are not those of its success record, so nobody
            can tell what is left over; nothing was deleted.
    """
    folder = RunFolder(store, run)
    success = folder.success()
    if success is None:
        raise InputError(
            f"{store.url}: run '{run}' is not finished, what looks left over may be needed: "
            "finish it with sdbatch render first"
        )
    # Listed before the records are read: a file named by a later record is never at risk.
    found = [*find_files(store, run), *_scratch(store, run)]
    named = _named(store, folder, success, run)
    orphans = sorted(key for key in found if key not in named)
    if not dry_run:
        for key in orphans:
            store.delete(key)
        for kind in layout.KINDS:
            store.sweep(layout.data_prefix(kind, run))
        store.sweep(layout.state_prefix(run), deep=True)
    return orphans


def find_files(store: Store, run: str = layout.MAIN) -> Iterator[str]:
    """Keys of all dataset files of a run, named by a record or not."""
    for kind in layout.KINDS:
        for info in store.list(layout.data_prefix(kind, run)):
            if layout.parse_data(info.key, run):
                yield info.key


def _named(store: Store, folder: RunFolder, success: Mapping[str, Any], run: str) -> set[str]:
    """Keys that a standing commit record or the success record names.

    The success record is asked too: a lost commit record must not take its files with it.
    """
    try:
        named = {str(file["key"]) for file in success["files"]}
        planned = int(success["num_shards"])
    except (KeyError, TypeError, ValueError) as error:
        place = store.join(layout.successes_prefix(run))
        raise DamagedError(place, f"no success record ({error!r}), nothing was deleted") from error
    standing = 0
    for record in folder.records():
        standing += 1
        named.update(file.key for _, file in record.files)
    if standing != planned:
        raise DamagedError(
            store.join(layout.commits_prefix(run)),
            f"{standing:,} commit records stand, the success record counts {planned:,} shards: "
            "nothing was deleted, see sdbatch verify",
        )
    return named


def _scratch(store: Store, run: str) -> Iterator[str]:
    for prefix in (layout.parts_prefix(run), layout.tokens_prefix(run)):
        for info in store.list(prefix):
            yield info.key
