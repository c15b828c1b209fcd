"""`--only-new`: rows of which every picture stands in a dataset already are left out of a plan.

What stands is what the success records of finished runs name; of it only `metadata/` is read,
and of `filtered/` the same columns: a picture that the same filters kept apart stands as well,
or it would be drawn and kept apart every night anew.
A row is compared by the `row_hash` of its pictures, so another model revision, setting or seed
makes every row another request. The rows that are left are written to a manifest of their
own, which goes into the run's folder: workers, retries and resumed calls read that and never
compare again, whatever stands by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdbatch.engine.new_job import absolute
from sdbatch.errors import DamagedError, InputError, JobError, ObjectNotFoundError
from sdbatch.manifest.bad_rows import BadRows
from sdbatch.manifest.checks import CheckReport
from sdbatch.manifest.content import id_digests
from sdbatch.manifest.freeze import write_tables
from sdbatch.manifest.matching import Matched, Matching
from sdbatch.manifest.opening import Opened
from sdbatch.manifest.reader import Manifest, Storage, iter_tables, open_manifest
from sdbatch.manifest.schema import read_columns
from sdbatch.model_specs import weights_revision
from sdbatch.plan.row_hashes import RowHashes, hex_words, prompt_names, words
from sdbatch.plan.rows import Resolving
from sdbatch.plan.selection import (
    LEFT_OUT,
    ONLY_NEW,
    OUTPUT,
    Selection,
    differences,
    judged_alike,
    left_out_digest,
)
from sdbatch.plan.settings import Resolved, row_defaults
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import all_runs
from sdbatch.storage.store import Store, open_store

FLAG = "--only-new"
BATCH_ROWS = 65536
_DRAWN = ("metadata", "filtered")
READ_AGAIN = 3  # a retry that ends meanwhile takes the files of its shards away


@dataclass(frozen=True)
class Chosen:
    """The rows of a plan.

    Attributes:
        opened: Their manifest.
        checked: What the check found, in positions of that manifest.
        bad: Rows that fail undrawn, likewise.
        selection: How they were chosen; None when all of them are meant.
        resolved: Settings, with the rows that were left out among them.
        notes: What a person should know of the comparison.
    """

    opened: Opened
    checked: CheckReport | None
    bad: BadRows | None
    selection: Selection | None
    resolved: Resolved
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StandingRun:
    """A finished run: its place in time among others, and what it was drawn with."""

    run: str
    settings: Mapping[str, Any]


def with_only_new(
    resolved: Resolved, only_new: bool | str | Path | None, stands: Mapping[str, Any] | None
) -> Resolved:
    """Settings with what rows are compared with.

    Args:
        only_new: True compares with the output itself, a place with the dataset there.
        stands: Settings of the plan that stands; None when there is none.

    Raises:
        JobError: Rows have no identity to compare, or a plan of all rows stands.
    """
    if not only_new:
        return resolved.with_value(ONLY_NEW, "", "default")
    if not resolved.value("manifest.hash_rows"):
        raise JobError(
            f"{FLAG}: rows without id are known by their content, which only the check reads: "
            "leave out --no-check"
        )
    if stands is not None and not stands.get(ONLY_NEW):
        raise JobError(
            f"{FLAG}: this run was planned with all rows of its manifest: rows that are new go "
            "into a run of their own, add --append NAME; to resume this one, leave it out"
        )
    against = OUTPUT if only_new is True else absolute(str(only_new))
    return replace(
        resolved.with_value(ONLY_NEW, against, FLAG), explicit=resolved.explicit | {ONLY_NEW}
    )


def choose_rows(
    rows: Chosen, output: Store, storage: Storage, limit: int | None, new_folder: Callable[[], Path]
) -> Chosen:
    """Leave out what stands; without `--only-new` all rows stay.

    Args:
        rows: All rows of the manifest, `selection` open.
        output: Where the run goes.
        storage: fsspec options.
        limit: Rows of the manifest that are looked at; None for all.
        new_folder: Makes an empty folder that stays until the run is over.

    Raises:
        InputError: There is no finished run to compare with.
        StorageError: What stands cannot be read.
    """
    against = rows.resolved.value(ONLY_NEW)
    if not against:
        return rows
    ref = rows.opened.manifest.ref
    num_rows = ref.num_rows if limit is None else min(limit, ref.num_rows)
    elsewhere = against != OUTPUT
    dataset = open_store(against, storage) if elsewhere else output
    runs, unfinished = _finished(dataset)
    if elsewhere and not runs:
        raise InputError(
            f"{FLAG} {against}: holds no finished run to compare with: name a dataset, or write "
            f"{FLAG} last to compare with OUT itself"
        )
    matched = _match(rows, num_rows, dataset, runs, storage)
    selection = _counted(matched, runs, rows.resolved.values())
    left_out = left_out_digest(matched.same)
    resolved = rows.resolved.with_value(LEFT_OUT, left_out, FLAG)
    notes = tuple(_unfinished_note(run) for run in unfinished)
    chosen = replace(rows, selection=selection, resolved=resolved, notes=notes)
    if not selection.same or not selection.drawn:
        return chosen
    kept = np.flatnonzero(~matched.same)
    path = new_folder() / "only-new.parquet"
    return replace(
        chosen,
        opened=Opened(_written(rows.opened.manifest, ~matched.same, path, storage), path),
        checked=_moved_report(rows.checked, kept),
        bad=_moved_bad(rows.bad, kept),
    )


def _match(
    rows: Chosen, num_rows: int, dataset: Store, runs: list[StandingRun], storage: Storage
) -> Matched:
    manifest, resolved, checked = rows.opened.manifest, rows.resolved, rows.checked
    columns = read_columns(manifest.ref.name, manifest.schema).canonical
    repeats: dict[int, int] = {}
    if checked is not None:
        pairs = zip(checked.repeat_rows.tolist(), checked.repeat_numbers.tolist(), strict=True)
        repeats = dict(pairs)
    hashes = RowHashes(
        Resolving(
            manifest=manifest.ref.name,
            defaults=row_defaults(resolved),
            seed=int(resolved.value("seed")),
            hash_rows=True,
            occurrences=repeats,
            model_revision=weights_revision(
                resolved.value("model.revision"), resolved.value("vae.revision")
            ),
        )
    )
    with Matching(num_rows) as matching:
        if runs:  # else everything is new, and nothing need be read to know that
            for table, places in _drawable(manifest, columns, num_rows, rows.bad, storage):
                found = hashes.pictures(table, places)
                matching.plan(found.rows, found.images, found.requests, found.names)
        for number, run in enumerate(runs):
            alike = judged_alike(run.settings, resolved.values())
            for kind, batch in _standing(dataset, run.run, "id" in columns):
                images = batch["image_index"].to_numpy().astype(np.int64)
                requests, names = hex_words(batch["row_hash"]), _names(batch)
                if kind == "metadata" or alike:
                    matching.stand(images, requests)
                matching.call(number, names)
        return matching.compare()


def _drawable(
    manifest: Manifest,
    columns: tuple[str, ...],
    num_rows: int,
    bad: BadRows | None,
    storage: Storage,
) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Rows with their positions; those that will fail cannot stand."""
    broken = np.array(sorted(bad.messages()) if bad else [], np.int64)
    first = 0
    lenient = bad is not None
    for table in iter_tables(manifest.ref, columns, BATCH_ROWS, storage, lenient=lenient):
        if first >= num_rows:
            return
        places = np.arange(first, min(first + table.num_rows, num_rows))
        first += table.num_rows
        good = ~np.isin(places, broken)
        inside = pa.array(np.flatnonzero(good))
        yield (table.slice(0, len(places)) if good.all() else table.take(inside)), places[good]


def _finished(dataset: Store) -> tuple[list[StandingRun], list[str]]:
    """Finished runs in the order in which they were planned, and names of unfinished ones."""
    found, unfinished = [], []
    for run in all_runs(dataset):
        folder = RunFolder(dataset, run)
        body = folder.read_job()
        if body is not None and folder.success_number() is not None:
            planned = str(body.get("created_at", ""))
            found.append((planned, StandingRun(run, dict(body["resolved"]))))
        elif body is not None:
            unfinished.append(run)
    return [run for _, run in sorted(found, key=lambda pair: (pair[0], pair[1].run))], unfinished


def _unfinished_note(run: str) -> str:
    return (
        f"note: run '{run}' is not finished, so its rows do not count as standing and may be "
        "drawn here once more: finish it first where that matters"
    )


def _standing(dataset: Store, run: str, by_id: bool) -> Iterator[tuple[str, pa.Table]]:
    """What is compared of every picture that a finished run drew, and the kind of its file.

    Pictures may come twice, which changes nothing, when a retry ends meanwhile.
    """
    wanted = ["row_hash", "image_index", *(("row_id",) if by_id else ("prompt", "seed"))]
    folder, read = RunFolder(dataset, run), -1
    for _ in range(READ_AGAIN):
        number = folder.success_number()
        if number is None or number == read:
            return
        read = number
        success = folder.success(number) or {}
        files = [(file["kind"], file["key"]) for file in success.get("files", ())]
        try:
            for kind, key in files:
                if kind in _DRAWN:
                    yield from ((kind, batch) for batch in _batches(dataset, key, wanted))
        except ObjectNotFoundError:
            if folder.success_number() == number:
                raise
            continue
        return


def _batches(dataset: Store, key: str, columns: list[str]) -> Iterator[pa.Table]:
    try:
        with dataset.open(key) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield pa.table(batch)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DamagedError(dataset.join(key), f"cannot be read ({error})") from error


def _names(batch: pa.Table) -> NDArray[np.uint64]:
    if "row_id" in batch.column_names:
        return words(b"".join(id_digests(batch["row_id"])))
    return prompt_names(batch["prompt"].to_pylist(), batch["seed"].to_pylist())


def _counted(matched: Matched, runs: list[StandingRun], now: Mapping[str, Any]) -> Selection:
    same, changed = int(matched.same.sum()), int(matched.changed.sum())
    differs: tuple[str, ...] = ()
    if matched.changed_in:
        most = max(matched.changed_in, key=lambda number: (matched.changed_in[number], number))
        differs = tuple(differences(runs[most].settings, now)) or ("the rows themselves",)
    return Selection(len(matched.same) - same - changed, changed, same, differs)


def _written(manifest: Manifest, kept: NDArray[np.bool_], path: Path, storage: Storage) -> Manifest:
    """The kept rows as a manifest of their own; its identity stays that of all rows."""

    def tables() -> Iterator[pa.Table]:
        first = 0
        for table in iter_tables(replace(manifest.ref, view=()), None, BATCH_ROWS, storage):
            here = kept[first : first + table.num_rows]
            yield table.slice(0, len(here)).filter(pa.array(here))
            first += table.num_rows

    write_tables(manifest.file_schema or manifest.schema, tables(), path)
    written = open_manifest(str(path))
    ref = replace(manifest.ref, name=f"{manifest.ref.name} (new rows)", files=written.ref.files)
    return replace(
        manifest, ref=ref, max_row_group_rows=written.max_row_group_rows, origin=None, unread=None
    )


def _moved_report(checked: CheckReport | None, kept: NDArray[np.int64]) -> CheckReport | None:
    """Repeat numbers of the rows that are kept, which stay what they were among all rows."""
    if checked is None:
        return None
    here = np.isin(checked.repeat_rows, kept)
    return replace(
        checked,
        repeat_rows=np.searchsorted(kept, checked.repeat_rows[here]),
        repeat_numbers=checked.repeat_numbers[here],
    )


def _moved_bad(bad: BadRows | None, kept: NDArray[np.int64]) -> BadRows | None:
    if bad is None:
        return None
    cells, was = bad.cells.to_pydict(), bad.cells["row_index"].to_pylist()
    said = zip(cells["message"], was, strict=True)
    # People look for the row in the file they wrote, which counts the rows left out as well.
    cells["message"] = [f"{message} (row {row} of the whole manifest)" for message, row in said]
    cells["row_index"] = np.searchsorted(kept, was)
    return BadRows(pa.table(cells, schema=bad.cells.schema))
