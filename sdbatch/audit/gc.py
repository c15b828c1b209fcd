"""Deletes what a finished run left behind, and only then.

While a shard, or a revision of it, is still to be made, a file without a record may belong to
an attempt that is about to commit: deleting it would make a commit record name nothing. So
candidates are listed first and the records are read afterwards. If then a success record
stands and no rework is open, every candidate was written for a shard that has its record,
and what no record names can never be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdbatch.errors import DamagedError, InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compaction import TRIED, compaction_numbers
from sdbatch.storage.lease import newest_epoch
from sdbatch.storage.rework import read_rework, rework_numbers
from sdbatch.storage.store import Store

KEPT_EPOCHS = 3
"""Newest leases, with their heartbeats, that stay."""


def collect_orphans(store: Store, run: str = layout.MAIN, dry_run: bool = False) -> list[str]:
    """Delete dataset files, parts and tokens of a run that no record names.

    Compactions but the newest two, leases but the newest three, requests to stop that nobody
    will heed, and temporary files of killed writers go too. Files of other runs and files that
    sdbatch did not name are left alone, records and logs always stay. Repeating it, or dying
    in the middle of it, does no harm.

    Returns:
        The keys, sorted; with `dry_run` they are only named.

    Raises:
        InputError: The run is not finished, or a retry or repair of it is not.
        DamagedError: Its commit records are not those of its success record, so nobody
            can tell what is left over; nothing was deleted.
    """
    folder = RunFolder(store, run)
    _finished_with(store, folder, run)  # refuses before anything long is read
    found = [*find_files(store, run), *_scratch(store, run)]
    named = _named(store, folder, run)
    orphans = sorted(key for key in found if layout.owner_key(key) not in named)
    if not dry_run:
        for key in orphans:
            store.delete(key)
        # Folders of loose pictures one by one: those of other runs may lie beside them.
        loose = {key.rpartition("/")[0] + "/" for key in found if layout.owner_key(key) != key}
        for prefix in (*(layout.data_prefix(kind, run) for kind in layout.KINDS), *sorted(loose)):
            store.sweep(prefix)
        store.sweep(layout.state_prefix(run), deep=True)
    return orphans


def find_files(store: Store, run: str = layout.MAIN) -> Iterator[str]:
    """Keys of all dataset files of a run, named by a record or not."""
    for folder_name in layout.FOLDERS:
        for info in store.list(layout.data_prefix(folder_name, run)):
            if layout.parse_data(info.key, run):
                yield info.key


def _finished_with(store: Store, folder: RunFolder, run: str) -> int:
    """Number of the success record that ends the run.

    Raises:
        InputError: There is none, there is no run at all, or a rework is open.
    """
    number = folder.success_number()
    if number is None:
        if store.head(layout.job_key(run)) is None and newest_epoch(store, run) is None:
            raise InputError(
                f"{store.url}: holds no run '{run}', name the output of sdbatch render"
            )
        raise InputError(
            f"{store.url}: run '{run}' is not finished, what looks left over may be needed: "
            "finish it with sdbatch render first"
        )
    begun = max(rework_numbers(store, run), default=0)
    if begun > number:
        rework = read_rework(store, run, begun)
        raise InputError(
            f"{store.url}: a {rework.word} of run '{run}' is not finished, what looks left over "
            f"may be needed: finish it with {rework.command(store.url, run)} first"
        )
    return number


def _named(store: Store, folder: RunFolder, run: str) -> set[str]:
    """Keys that a standing commit record or the success record names.

    The success record is asked too: a lost commit record must not take its files with it.
    """
    named: set[str] = set()
    standing = 0
    for record in folder.records(certain=True):
        standing += 1
        named.update(file.key for _, file in record.files)
    success = folder.success(_finished_with(store, folder, run)) or {}
    planned = _take_files(store, run, success, named)
    if standing != planned:
        raise DamagedError(
            store.join(layout.commits_prefix(run)),
            f"{standing:,} commit records stand, the success record counts {planned:,} shards: "
            "nothing was deleted, see sdbatch verify",
        )
    return named


def _take_files(store: Store, run: str, success: Mapping[str, Any], named: set[str]) -> int:
    """Add the files of a success record; returns how many shards it counts."""
    try:
        named.update(str(file["key"]) for file in success["files"])
        return int(success["num_shards"])
    except (KeyError, TypeError, ValueError) as error:
        place = store.join(layout.successes_prefix(run))
        raise DamagedError(place, "no success record, nothing was deleted") from error


def _scratch(store: Store, run: str) -> Iterator[str]:
    for prefix in (layout.parts_prefix(run), layout.tokens_prefix(run)):
        for info in store.list(prefix):
            yield info.key
    for number in compaction_numbers(store, run)[:-TRIED]:
        yield layout.compaction_key(run, number)
    epoch = newest_epoch(store, run)
    newest = epoch.number if epoch is not None else 0
    for info in store.list(layout.stops_prefix(run)):
        asked = layout.parse_stop(info.key)
        if asked is not None and asked < newest:
            yield info.key
    # The newest epoch always stays: the next driver counts on from it.
    for info in store.list(layout.leases_prefix(run)):
        driven = layout.parse_lease(info.key)
        if driven is not None and driven <= newest - KEPT_EPOCHS:
            yield info.key
