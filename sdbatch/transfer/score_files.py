"""The files of scores: written, joined to rows by key, and tidied when a shard changed.

A file holds `key` and the scorer's columns for each row of a shard's `data/`, in its order.
`JoinedScores` gives export and others the columns of all scorers, of those shards whose scores
speak of the very file that stands; where a shard was not scored since it changed, null.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sdbatch.dataset.disk import local_disk
from sdbatch.errors import DamagedError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorers import Panel, Value
from sdbatch.results import DataFile
from sdbatch.storage import layout, score_layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.score_records import ScoreFolder, ScoreRecord, score_names, scorer_of
from sdbatch.storage.store import Store

HELD_SHARDS = 4
"""Shards whose scores stay in memory."""


class ScoreWriter:
    """Writes and commits the scores of shards of one run.

    Args:
        folder: Local, for files on their way.
        panel: What judged, for the record.
    """

    def __init__(self, store: Store, run: str, folder: Path, panel: Panel) -> None:
        self._store, self._run, self._folder, self._panel = store, run, folder, panel

    def write(
        self,
        spec: ScorerSpec,
        record: CommitRecord,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Value]],
        seconds: float,
    ) -> int:
        """Store one scorer's numbers of a shard; returns how many are missing.

        Whoever loses the race for the record deletes its own file, which nobody names.

        Raises:
            StorageError: The store did not take them; nothing is visible.
        """
        columns = [pa.array([row[name] for row in values], _kind(name)) for name in spec.columns]
        table = pa.table([pa.array(keys, pa.string()), *columns], schema=score_schema(spec.columns))
        file = self._store_table(spec.name, record, table)
        missing = int(sum(column.null_count for column in columns))
        won = ScoreFolder(self._store, self._run, spec.name).commit(
            ScoreRecord(
                shard_id=record.result.shard_id,
                revision=record.revision,
                data_sha256=record.result.data.sha256,
                scorer=spec.revision,
                file=file,
                missing=missing,
                device=self._panel.device,
                batch_size=self._panel.batch_size,
                seconds=round(seconds, 3),
            )
        )
        if not won:
            self._store.delete(file.key)
        return missing

    def _store_table(self, name: str, record: CommitRecord, table: pa.Table) -> DataFile:
        attempt = uuid.uuid4().hex[:8]
        parsed = layout.parse_data(record.result.metadata.key, self._run)
        if parsed is None or parsed.num_shards is None:
            raise DamagedError(record.result.metadata.key, "is not named as files of shards are")
        kind, shard_id = score_layout.score_kind(name), record.result.shard_id
        key = layout.data_key(kind, shard_id, parsed.num_shards, attempt, self._run)
        path = self._folder / f"{name}-{attempt}.parquet"
        with local_disk(path):
            pq.write_table(table, path, compression="zstd")
            data = path.read_bytes()
        try:
            self._store.put_file(key, path)
        finally:
            path.unlink(missing_ok=True)
        return DataFile(key, table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def score_schema(columns: Sequence[str]) -> pa.Schema:
    """The schema of a file of scores."""
    return pa.schema([("key", pa.string()), *((name, _kind(name)) for name in columns)])


def listed_files(store: Store, run: str, name: str) -> dict[str, int]:
    """Key to size of the files of a scorer over one run, named by a record or not."""
    prefix = layout.data_prefix(score_layout.score_kind(name), run)
    depth = prefix.count("/")
    infos = (info for info in store.list(prefix) if info.key.count("/") == depth)
    return {info.key: info.size_bytes for info in infos}


def tidy(store: Store, run: str, name: str) -> list[str]:
    """Delete files of scores that no record names any more; returns their keys.

    Listed first and judged afterwards, as gc does it: a file of a shard whose standing
    revision has its record can never be named again, unless that record names it.
    """
    prefix = layout.data_prefix(score_layout.score_kind(name), run)
    listed = listed_files(store, run, name)
    folder = ScoreFolder(store, run, name)
    done = folder.done()
    gone = []
    for record in RunFolder(store, run).records() if listed else ():
        shard_id = record.result.shard_id
        if done.get(shard_id) != record.revision:
            continue
        standing = folder.record(shard_id, record.revision)
        begins = f"{prefix}train-{shard_id:05d}-of-"
        for key in listed:
            if standing and key.startswith(begins) and key != standing.file.key:
                store.delete(key)
                gone.append(key)
    return gone


class JoinedScores:
    """All columns that were scored after the runs, joined to rows by their key.

    Attributes:
        fields: The columns of all scorers, by scorer and then as each gives them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._columns = {
            name: tuple(map(str, (scorer_of(store, name) or {}).get("columns", ())))
            for name in score_names(store)
        }
        self.fields: Sequence[pa.Field] = [
            pa.field(column, _kind(column))
            for columns in self._columns.values()
            for column in columns
        ]
        self._done: dict[tuple[str, str], dict[int, int]] = {}
        self._load = lru_cache(HELD_SHARDS)(self._read)

    def signature(self, run: str, shard_id: int) -> str:
        """Changes when the scores of a shard do."""
        parts = ((name, self._newest(run, name).get(shard_id)) for name in self._columns)
        return ",".join(f"{name}.{revision}" for name, revision in parts if revision is not None)

    def join(self, rows: pa.RecordBatch, run: str, shard_id: int) -> pa.RecordBatch:
        """Rows with the columns of `fields`; null where a row has no score.

        Raises:
            DamagedError: A file of scores is not what its record says.
        """
        if not self.fields:
            return rows
        scores = self._load(run, shard_id)
        for field in self.fields:
            held = scores.get(field.name)
            if held is None:
                column = pa.nulls(rows.num_rows, field.type)
            else:
                keys, values = held
                column = values.take(pc.index_in(rows.column("key"), keys))
            rows = _with_column(rows, field, column)
        return rows

    def _read(self, run: str, shard_id: int) -> dict[str, tuple[pa.Array, pa.Array]]:
        """Column to (keys, values) of the scores that speak of what stands."""
        found: dict[str, tuple[pa.Array, pa.Array]] = {}
        standing = RunFolder(self._store, run).record(shard_id)
        for name, columns in self._columns.items():
            if standing is None or self._newest(run, name).get(shard_id) != standing.revision:
                continue
            record = ScoreFolder(self._store, run, name).record(shard_id, standing.revision)
            if record is None or record.data_sha256 != standing.result.data.sha256:
                continue
            table = read_scores(self._store, record)
            keys = table["key"].combine_chunks()
            found |= {column: (keys, table[column].combine_chunks()) for column in columns}
        return found

    def _newest(self, run: str, name: str) -> dict[int, int]:
        if (run, name) not in self._done:
            self._done[run, name] = ScoreFolder(self._store, run, name).done()
        return self._done[run, name]


def read_scores(store: Store, record: ScoreRecord) -> pa.Table:
    """The scores of a shard.

    Raises:
        DamagedError: The file is not what its record says.
    """
    data = store.get(record.file.key)
    if hashlib.sha256(data).hexdigest() != record.file.sha256:
        raise DamagedError(
            store.join(record.file.key),
            "its bytes are not those of its record: delete it and run sdbatch score again",
        )
    with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
        return file.read(use_threads=False)


def _with_column(rows: pa.RecordBatch, field: pa.Field, column: pa.Array) -> pa.RecordBatch:
    at = rows.schema.get_field_index(field.name)
    return rows.set_column(at, field, column) if at >= 0 else rows.append_column(field, column)


def _kind(column: str) -> pa.DataType:
    return pa.bool_() if column == "nsfw" else pa.float32()
