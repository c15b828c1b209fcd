"""Failures of a run in groups: what failed, how often, for which reason, and what to do.

Two passes over the errors/ files of committed shards. The first reads types and messages
alone, a batch at a time, and remembers where the first examples stand; the second fetches
prompts and one traceback of the groups that are shown. So a million failures cost the
memory of a batch, and the answer is the same during a run, after it, and without a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.audit.advice import advice_for
from sdbatch.audit.plain_text import plain, shortened
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import newest_epoch
from sdbatch.storage.store import Store

SHOWN = 20
EXAMPLES = 2
MAX_GROUPS = 2_000  # kept apart; beyond them a type's failures are counted together
BATCH_ROWS = 8_192
MESSAGE_CHARS = 300
PROMPT_CHARS = 120
TRACEBACK_LINES = 6
OTHER = "(further messages)"

_COLLAPSED = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.I), "<url>"),
    (re.compile(r"(?<![\w.])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.@+=-]+){2,}[/\\]?"), "<path>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.I), "#"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b", re.I), "#"),
    (re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", re.I), "#"),
    (re.compile(r"\s+"), " "),
)


def normalised(message: str) -> str:
    """A message without what differs from row to row: numbers, hex, paths and URLs."""
    text = message[:MESSAGE_CHARS]
    for pattern, instead in _COLLAPSED:
        text = pattern.sub(instead, text)
    return text.strip()


@dataclass(frozen=True, slots=True)
class Example:
    """A picture that failed.

    Attributes:
        key: Of its column `key`; `sdbatch replay` takes it too once it is drawn.
    """

    key: str
    row_index: int
    shard_id: int
    prompt: str
    message: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one type and one message, but for numbers, hex and paths.

    Attributes:
        message: The message with those collapsed.
        examples: The first of them, at most `EXAMPLES`.
        traceback: Of one of them; empty where none was kept.
        advice: What would be right, in one line.
        command: What draws them again; empty where the input must change first.
    """

    error_type: str
    message: str
    count: int
    examples: Sequence[Example]
    traceback: str
    advice: str
    command: str


@dataclass(frozen=True, slots=True)
class Failures:
    """What failed in a run, most frequent first.

    Attributes:
        failed: Failed pictures of all committed shards, by their records.
        shards_done: Shards that have a record, of `shards`; None when nothing is planned yet.
        error_types: Type to count, most frequent first.
        groups: The first `SHOWN` groups; `kinds` counts all of them, `counted` their failures.
        unread: Keys of errors/ files that are missing or damaged.
    """

    url: str
    run: str
    failed: int
    shards: int
    shards_done: int
    error_types: dict[str, int]
    kinds: int
    counted: int
    groups: Sequence[FailureGroup]
    unread: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields, as `errors --json` prints them."""
        return asdict(self)

    def describe(self, full: bool = False) -> str:
        """The groups for people; with `full` whole tracebacks and messages."""
        scope = "" if self.shards_done == self.shards else f" in {self.shards_done:,} of "
        scope += f"{self.shards:,} shards committed so far" if scope else ""
        if not self.failed:
            return f"{self.url}: nothing failed{scope}"
        types = ", ".join(f"{plain(name)} {count:,}" for name, count in self.error_types.items())
        lines = [f"{self.url}: {self.failed:,} pictures failed{scope} ({types})"]
        for group in self.groups:
            lines += ["", *_group_lines(group, full)]
        if self.kinds > len(self.groups):
            left = self.counted - sum(group.count for group in self.groups)
            more = self.kinds - len(self.groups)
            lines += ["", f"... and {more:,} more kinds with {left:,} failures, --type narrows"]
        if self.unread:
            verify = f"sdbatch verify {self.url}"
            lines += ["", f"{len(self.unread):,} files of errors/ cannot be read, see: {verify}"]
        return "\n".join(lines)


@dataclass(slots=True)
class _Group:
    """A group while it is counted: where its first examples stand."""

    count: int = 0
    places: list[tuple[str, int, int]] = field(default_factory=list)  # key, row group, row


def find_failures(
    store: Store, run: str | Sequence[str] = layout.MAIN, error_type: str | None = None
) -> Failures:
    """Group the failures of all committed shards of a run, or of several.

    Args:
        error_type: Only failures of this type.

    Raises:
        InputError: There is no run, or nothing failed with this type.
        DamagedError: A record cannot be read.
    """
    runs = [run] if isinstance(run, str) else list(run)
    count = _Count(store, error_type)
    failed = shards = 0
    planned = sum(_planned_shards(store, name) for name in runs)
    types: dict[str, int] = {}
    for record in (record for name in runs for record in RunFolder(store, name).records()):
        shards += 1
        failed += record.result.failed
        for name, number in record.result.errors.items():
            types[name] = types.get(name, 0) + number
        wanted = error_type is None or error_type in record.result.errors
        if record.result.errors_file is not None and wanted:
            count.add(record.result.errors_file)
    if error_type is not None and error_type not in types:
        there = f"there are {', '.join(sorted(types))}" if types else "nothing failed"
        raise InputError(f"type '{error_type}' of {store.url}: {there}")
    ranked = sorted(count.groups.items(), key=lambda item: (-item[1].count, item[0]))
    return Failures(
        url=store.url,
        run=runs[0] if len(runs) == 1 else "all",
        failed=failed,
        shards=planned,
        shards_done=shards,
        error_types=dict(sorted(types.items(), key=lambda item: (-item[1], item[0]))),
        kinds=len(ranked),
        counted=sum(group.count for _, group in ranked),
        groups=tuple(_told(store, *item) for item in ranked[:SHOWN]),
        unread=tuple(count.unread),
    )


def _planned_shards(store: Store, run: str) -> int:
    folder = RunFolder(store, run)
    job = folder.read_job()
    if job is not None:
        return int(job["num_shards"])
    if run != layout.MAIN and newest_epoch(store, run) is not None:
        return 0  # a driver is about to plan it
    raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")


class _Count:
    """The first pass: failures by type and normalised message."""

    def __init__(self, store: Store, error_type: str | None) -> None:
        self._store, self._error_type = store, error_type
        self.groups: dict[tuple[str, str], _Group] = {}
        self.unread: list[str] = []

    def add(self, file: DataFile) -> None:
        """Count the failures of one file; one that cannot be read is remembered."""
        try:
            with self._store.open(file.key) as source:
                self._read(file.key, pq.ParquetFile(source, pre_buffer=False))
        except (ObjectNotFoundError, DamagedError, pa.ArrowInvalid, OSError):
            self.unread.append(file.key)

    def _read(self, key: str, parquet: pq.ParquetFile) -> None:
        columns = ["error_type", "error_message"]
        for number in range(parquet.num_row_groups):
            before = 0
            for batch in parquet.iter_batches(
                BATCH_ROWS, row_groups=[number], columns=columns, use_threads=False
            ):
                self._take(key, number, before, pa.table(batch))
                before += batch.num_rows

    def _take(self, key: str, row_group: int, before: int, table: pa.Table) -> None:
        """Count a batch: equal messages are counted by Arrow and normalised once."""
        places = pa.array(np.arange(before, before + table.num_rows))
        counted = (
            table.append_column("place", places)
            .group_by(["error_type", "error_message"], use_threads=False)
            .aggregate([("place", "count"), ("place", "min"), ("place", "max")])
        )
        for row in counted.to_pylist():
            name = row["error_type"] or ""
            if self._error_type not in (None, name):
                continue
            group = self._group(name, normalised(row["error_message"] or ""))
            group.count += row["place_count"]
            for place in sorted({row["place_min"], row["place_max"]}):
                if len(group.places) < EXAMPLES:
                    group.places.append((key, row_group, place))

    def _group(self, name: str, message: str) -> _Group:
        place = (name, message)
        if place not in self.groups and len(self.groups) >= MAX_GROUPS:
            # Types come from programs, of which there are few; messages may quote anything.
            place = (name, OTHER)
        return self.groups.setdefault(place, _Group())


def _told(store: Store, place: tuple[str, str], group: _Group) -> FailureGroup:
    """The second pass: examples and a traceback of one group."""
    name, message = place
    rows = [row for where in group.places for row in _row(store, *where)]
    run = layout.run_of(group.places[0][0]) if group.places else layout.MAIN
    advice, command = advice_for(name, store.url, run)
    return FailureGroup(
        error_type=name,
        message=message,
        count=group.count,
        examples=tuple(
            Example(
                key=row.get("key") or "",
                row_index=row.get("row_index", -1),
                shard_id=row.get("shard_id", -1),
                prompt=row.get("prompt") or "",
                message=row.get("error_message") or "",
            )
            for row in rows
        ),
        traceback=next((text for row in rows if (text := row.get("traceback"))), ""),
        advice=advice,
        command=command,
    )


def _row(store: Store, key: str, row_group: int, place: int) -> Iterator[dict[str, Any]]:
    """One failure with all that is shown of it; nothing when it is gone meanwhile."""
    wanted = ("key", "row_index", "shard_id", "prompt", "error_message", "traceback")
    try:
        with store.open(key) as source:
            parquet = pq.ParquetFile(source, pre_buffer=False)
            columns = [name for name in wanted if name in parquet.schema_arrow.names]
            before = 0
            for batch in parquet.iter_batches(
                1024, row_groups=[row_group], columns=columns, use_threads=False
            ):
                if place < before + batch.num_rows:
                    yield batch.slice(place - before, 1).to_pylist()[0]
                    return
                before += batch.num_rows
    except (ObjectNotFoundError, DamagedError, pa.ArrowInvalid, OSError):
        return


def _group_lines(group: FailureGroup, full: bool) -> list[str]:
    reason = group.examples[0].message if group.examples else group.message
    said = plain(reason if full else shortened(reason, MESSAGE_CHARS))
    said = f"further messages, such as: {said}" if group.message == OTHER else said
    lines = [f"{group.count:,} x {plain(group.error_type)}: {said}"]
    for example in group.examples:
        prompt = plain(example.prompt if full else shortened(example.prompt, PROMPT_CHARS))
        lines.append(f'  {plain(example.key)}  row {example.row_index}  "{prompt}"')
    trace = [plain(line) for line in group.traceback.rstrip().splitlines()]
    if trace and not full and len(trace) > TRACEBACK_LINES:
        trace = ["... (--full shows all)", *trace[-TRACEBACK_LINES:]]
    lines += [f"  | {line}" for line in trace]
    lines.append(f"  {group.advice}")
    if group.command:
        lines.append(f"  fix: {group.command}")
    return lines
