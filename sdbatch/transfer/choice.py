"""Which rows a call of an export writes, into which files, under which names.

Reads metadata alone, shard by shard, and keeps what it decides in a database on local disk, so
that memory does not grow with the dataset. Decides nothing by chance: the same dataset
and the same finished files give the same files again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdbatch.dataset.files import picture_reference
from sdbatch.dataset.schema import class_names
from sdbatch.dataset.where import columns as columns_of
from sdbatch.dataset.where import parse_where
from sdbatch.errors import InputError, LocalDiskError
from sdbatch.job import nearest
from sdbatch.transfer.ledger import ShardCount
from sdbatch.transfer.names import FolderNames, TakenNames, Template, stored_name
from sdbatch.transfer.outputs import FILE_NAME
from sdbatch.transfer.sources import Source, Sources
from sdbatch.transfer.split import shuffled_place
from sdbatch.transfer.terms import Terms

ROW_BYTES = 512
"""What a row takes beside its picture, roughly; files are cut by the sum."""

PART_PICTURES = 4500
"""Pictures in one record where each is a file of its own."""

_TABLES = """
create table done (key text primary key, mark text, file integer, shard integer,
                   seen integer default 0) without rowid;
create table todo (id integer primary key, source integer, key text, split integer,
                   place integer, bytes integer, name text, file integer);
create table newest (row_id text primary key, run integer) without rowid;
"""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that is to be written.

    Attributes:
        number: From 0 within this call.
    """

    number: int
    split: str
    rows: int
    picture_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row goes.

    Attributes:
        file: Number of a `PlannedFile`.
        order: Rises along the rows of the file.
        name: Of its picture, below DEST; of its sample in a tar; empty in Parquet.
    """

    file: int
    order: int
    name: str


class Choice:
    """Decides; ask `take` for every shard that must be read, then `cut`.

    Args:
        scratch: A local file for the database, made anew.

    Raises:
        InputError: A column or condition of the terms does not fit the dataset.
    """

    def __init__(self, terms: Terms, sources: Sources, scratch: Path) -> None:
        scratch.unlink(missing_ok=True)
        self._terms, self._sources = terms, sources
        self._database = sqlite3.connect(scratch, isolation_level=None)
        self._database.executescript("pragma journal_mode=off; pragma synchronous=off;" + _TABLES)
        self._database.execute("begin")
        self.names = TakenNames(self._database)
        self._folders = FolderNames(self._database)
        schema = sources.schema
        _demand_readable(schema, terms)
        _demand_one_ending(sources, terms)
        known = [name for name in schema.names if name != "image"]
        self._where = parse_where(terms.where, _plain(schema)) if terms.where else None
        self._template = Template.parse(terms.name, known) if terms.name else None
        self._folder_by = stored_name(terms.folder_by, known)
        if self._folder_by and self._folder_by not in known:
            raise InputError(
                f"--folder-by {terms.folder_by}: no such column{nearest(terms.folder_by, known)}"
            )
        self._classes = class_names(schema.field(self._folder_by)) if self._folder_by else ()
        self._splits = terms.splits
        self._has_folder = bool(terms.folder_by) or terms.format == "imagefolder"
        self._columns = self._needed()

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    # -- what stands -------------------------------------------------------------------------

    def know(
        self, rows: pa.RecordBatch, number: int, shards: Mapping[tuple[str, int], int]
    ) -> None:
        """Take rows of a finished file into account that come from shards to be read.

        Args:
            rows: With `key`, `sha256`, `run_id`, `shard_id` and all scores.
            number: Of the file's record.
            shards: (run, shard) to the place of its source.
        """
        for row in rows.to_pylist():
            shard = shards.get((row["run_id"], row["shard_id"]))
            if shard is not None:
                values = (row["key"], self._mark(row), number, shard)
                self._do("insert or replace into done values (?, ?, ?, ?, 0)", values)

    @property
    def naming(self) -> list[str]:
        """Columns of a finished file's rows from which `hold_names` learns."""
        return [FILE_NAME.name, *([self._folder_by] if self._folder_by else [])]

    def hold_names(self, split: str, rows: pa.RecordBatch) -> None:
        """Take the names of pictures of a finished file, and their folders, into account."""
        names = rows.column(FILE_NAME.name).to_pylist()
        if not self._terms.pictures:
            for name in names:
                self.names.hold(split, name.rpartition(".")[0])
            return
        base = base_of(self._terms, split)
        values = (
            rows.column(self._folder_by).to_pylist() if self._folder_by else [None] * rows.num_rows
        )
        for name, value in zip(names, values, strict=True):
            parts = name.removeprefix(f"{base}/").split("/")
            folder = f"{base}/{parts[0] if self._has_folder else ''}"
            self.names.hold(folder, parts[-1].rpartition(".")[0])
            self.names.subfolder(folder)
            if self._folder_by:
                self._folders.hold(self._folder_text(value), parts[0])

    def note_newest(self, source: Source) -> None:
        """Remember which rows stand in a run, for `--latest`."""
        rank = self._sources.rank(source.run)
        for batch in self._sources.rows(source, ["key", "row_id"]):
            for row_id in batch.column("row_id").to_pylist():
                self._do(
                    "insert into newest values (?, ?) on conflict (row_id) do update set "
                    "run = max(run, excluded.run)",
                    (row_id, rank),
                )

    # -- what is to be written -----------------------------------------------------------------

    def take(self, source: Source) -> ShardCount:
        """Decide about the rows of one shard."""
        rank = self._sources.rank(source.run)
        exported = left_out = older = 0
        for batch in self._sources.rows(source, self._columns):
            kept = self._kept(batch)
            for row, wanted in zip(batch.to_pylist(), kept, strict=True):
                if self._terms.latest and self._is_older(row["row_id"], rank):
                    older += 1
                elif not wanted:
                    left_out += 1
                else:
                    exported += 1
                    self._choose(source.place, row)
        return ShardCount(source.signature, exported, left_out, older)

    def changed(self) -> set[int]:
        """Finished files that hold rows which are no more, or are others now."""
        return {number for (number,) in self._do("select distinct file from done where not seen")}

    def has_rows(self, split: str) -> bool:
        """Whether there is anything to write into a split."""
        number = self._splits.names.index(split)
        return (
            self._do("select 1 from todo where split = ? limit 1", (number,)).fetchone() is not None
        )

    def cut(self, file_bytes: int) -> list[PlannedFile]:
        """Lay the rows into files; returns those, split by split, in order.

        Args:
            file_bytes: No file holds more, unless one picture does.
        """
        most_rows = PART_PICTURES if self._terms.pictures else 1 << 40
        found: list[PlannedFile] = []
        current = (-1, 0, 0)  # split, rows, bytes
        ordered = self._do("select id, split, bytes from todo order by split, place, id")
        for rank, (number, split, size) in enumerate(ordered):
            same, rows, held = split == current[0], current[1], current[2]
            if not same or rows >= most_rows or held + size + ROW_BYTES > file_bytes:
                found.append(PlannedFile(len(found), self._splits.names[split], 0, 0))
                rows = held = 0
            current = (split, rows + 1, held + size + ROW_BYTES)
            last = found[-1]
            bytes_now = last.picture_bytes + size
            found[-1] = PlannedFile(last.number, last.split, last.rows + 1, bytes_now)
            values = (last.number, rank, number)
            self._do("update todo set file = ?, place = ? where id = ?", values)
        self._do("create index todo_source on todo (source)")
        self._do("create index todo_file on todo (file)")
        return found

    def places(self, source: int, files: Sequence[int] | None = None) -> dict[str, Place]:
        """Key to place, of the rows of a shard that go into these files (all when None)."""
        rows = self._do(
            "select key, file, place, name from todo where source = ?", (source,)
        ).fetchall()
        wanted = None if files is None else set(files)
        return {
            key: Place(file, place, name)
            for key, file, place, name in rows
            if wanted is None or file in wanted
        }

    def sources_of(self, files: Sequence[int] | None = None) -> list[int]:
        """Places of the sources whose rows go into these files (all when None)."""
        found = self._do("select distinct source, file from todo").fetchall()
        wanted = None if files is None else set(files)
        return sorted({source for source, file in found if wanted is None or file in wanted})

    def file_names(self, file: int) -> Iterator[str]:
        """Names of a planned file's pictures."""
        for (name,) in self._do("select name from todo where file = ?", (file,)):
            yield name

    # ----------------------------------------------------------------------------------------

    def _needed(self) -> list[str]:
        terms = self._terms
        wanted = ["key", "sha256", "image_bytes", "format", *self._sources.scored]
        wanted += ["row_id"] if terms.latest else []
        wanted += sorted(columns_of(terms.where)) if terms.where else []
        wanted += self._template.columns if self._template else ()
        wanted += [self._folder_by] if self._folder_by else []
        return list(dict.fromkeys(wanted))

    def _kept(self, batch: pa.RecordBatch) -> list[bool]:
        """Which rows the condition chooses."""
        if self._where is None:
            return [True] * batch.num_rows
        numbered = pa.Table.from_batches([batch]).append_column(
            _AT, pa.array(range(batch.num_rows), pa.int64())
        )
        chosen = set(numbered.filter(self._where).column(_AT).to_pylist())
        return [at in chosen for at in range(batch.num_rows)]

    def _is_older(self, row_id: str, rank: int) -> bool:
        found = self._do("select run from newest where row_id = ?", (row_id,)).fetchone()
        return found is not None and found[0] > rank

    def _choose(self, source: int, row: Mapping[str, Any]) -> None:
        """A row that belongs to the export: written already, changed, or to be written."""
        key = row["key"]
        held = self._do("select mark from done where key = ?", (key,)).fetchone()
        if held is not None:
            if held[0] == self._mark(row):
                self._do("update done set seen = 1 where key = ?", (key,))
            return  # otherwise its file is retired, and all is decided anew
        terms = self._terms
        split = self._splits.of(key)
        place = shuffled_place(key, terms.seed) if terms.shuffle else 0
        values = (
            source, key, self._splits.names.index(split), place, row["image_bytes"],
            self._name(split, row),
        )  # fmt: skip
        self._do(
            "insert into todo (source, key, split, place, bytes, name) values (?, ?, ?, ?, ?, ?)",
            values,
        )

    def _mark(self, row: Mapping[str, Any]) -> str:
        """What of a row may change while its key stays: the picture, and its scores."""
        return " ".join([row["sha256"], *(repr(row[name]) for name in self._sources.scored)])

    def _name(self, split: str, row: Mapping[str, Any]) -> str:
        terms = self._terms
        if terms.format == "parquet":
            return ""
        stem = self._template.fill(row) if self._template else str(row["key"])
        if terms.format == "webdataset":
            stem = stem.replace(".", "_")  # readers split a member's name at its first dot
            return self.names.take(split, stem) if self._template else stem
        base, folder = base_of(terms, split), self._folder(row)
        stem = self.names.take(f"{base}/{folder}", stem)
        inner = self.names.subfolder(f"{base}/{folder}")
        return "/".join(part for part in (base, folder, inner, f"{stem}.{row['format']}") if part)

    def _folder(self, row: Mapping[str, Any]) -> str:
        column = self._folder_by
        if not column:
            return "images" if self._terms.format == "imagefolder" else ""
        return self._folders.of(self._folder_text(row[column]))

    def _folder_text(self, value: Any) -> str | None:
        if value is None:
            return None
        return self._classes[value] if self._classes else str(value)

    def _do(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(sql, values)
        except sqlite3.OperationalError as error:
            raise LocalDiskError("this machine", "the export's database", str(error)) from error


_AT = "__sdbatch_at"


def base_of(terms: Terms, split: str) -> str:
    """The folder of a split's pictures, below DEST."""
    if terms.format == "imagefolder":
        return split
    return f"images/{split}" if terms.split else "images"


def _demand_readable(schema: pa.Schema, terms: Terms) -> None:
    """Refuse columns that readers of this form take for something else."""
    for field in schema:
        name = picture_reference(field) if terms.pictures else ""
        if name or (field.name == FILE_NAME.name and terms.format != "parquet"):
            raise InputError(
                f"--format {terms.format}: its readers take column '{name or field.name}' for the "
                "name of a picture, use --format parquet"
            )


def _demand_one_ending(sources: Sources, terms: Terms) -> None:
    """Refuse tars whose samples differ in their members: readers see those of the first."""
    if terms.format != "webdataset" or (terms.where and "format" in columns_of(terms.where)):
        return
    resolved: list[Any] = [job.get("resolved") or {} for job in sources.jobs.values()]
    endings = sorted({str(each.get("image.format", "png")) for each in resolved})
    if len(endings) > 1:
        raise InputError(
            f"--format webdataset: runs hold {' and '.join(endings)}, of which readers of tars see "
            f"one: add --where \"format = '{endings[0]}'\", or use another format"
        )


def _plain(schema: pa.Schema) -> pa.Schema:
    """The columns that a condition may name."""
    return pa.schema([field for field in schema if field.name != "image"])
