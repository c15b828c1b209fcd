"""`sdbatch score`: models judge the pictures of a dataset that stands, shard by shard.

Pictures are read as they are stored, once for all scorers that want them, and decoded while
others are judged. Each scorer's numbers of a shard become a small file by key and a record;
what has its record is left alone by the next call, so a call that was stopped, a retry and an
appended run cost only what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.audit.pictures import shard_rows
from sdbatch.dataset.images import decode
from sdbatch.dataset.schema import IMAGE, schema_from_bytes
from sdbatch.engine.daemon_pool import busy_threads
from sdbatch.engine.driver_loop import Stop
from sdbatch.errors import InputError
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorers import Panel, Value, plain_prompt
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.score_records import ScoreFolder, claim_name
from sdbatch.storage.store import Store
from sdbatch.transfer.score_files import ScoreWriter, listed_files, tidy

MAX_DECODERS = 8
AHEAD = 2  # batches that are decoded before they are asked for


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What a call of `score` came to.

    Attributes:
        columns: Of all scorers that were asked.
        pictures: Judged in this call.
        missing: Numbers that a scorer failed to give, of those pictures.
        shards: Scored in this call, once per scorer.
        standing: Shards that had their scores already, once per scorer.
        faults: What scorers said when they failed, the first few.
        stopped: Why it ended early; empty when all is scored.
    """

    output: str
    columns: tuple[str, ...]
    pictures: int = 0
    missing: int = 0
    shards: int = 0
    standing: int = 0
    seconds: float = 0.0
    faults: tuple[str, ...] = ()
    stopped: str = ""

    @property
    def exit_code(self) -> int:
        """0 all scored, 75 stopped early."""
        return 75 if self.stopped else 0

    def to_dict(self) -> dict[str, Any]:
        """All fields, for machines."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"exit_code": self.exit_code}

    def describe(self) -> str:
        """Lines for people."""
        rate = f", {self.pictures / self.seconds:,.1f} a second" if self.seconds > 0 else ""
        lines = [
            f"{', '.join(self.columns)}: {self.pictures:,} pictures in {self.shards:,} shards"
            f"{rate}; {self.standing:,} stood already"
        ]
        if self.missing:
            why = "; ".join(self.faults) or "pictures without a prompt"
            lines.append(f"{self.missing:,} numbers are missing: {why}")
        if self.stopped:
            lines.append(f"ended early: {self.stopped}; the same command goes on")
        return "\n".join(lines)


@dataclass
class Scoring:
    """One call over one dataset.

    Args:
        panel: Its scorers are those of `specs`, in their order.
        folder: Local, for files on their way.
        note: Told how it goes.
    """

    store: Store
    specs: Sequence[ScorerSpec]
    panel: Panel
    folder: Path
    stop: Stop
    note: Callable[[str], None]

    def run(self, runs: Sequence[str]) -> ScoreSummary:
        """Score what has no scores yet.

        Raises:
            InputError: There is no run, or a name stands for another model or a column.
            StorageError: The store failed, or a picture is damaged.
        """
        columns = tuple(column for spec in self.specs for column in spec.columns)
        summary = ScoreSummary(self.store.url, columns)
        began = time.monotonic()
        known = {run: known_columns(self.store, self.specs, run) for run in runs}
        for spec in self.specs:
            claim_name(self.store, spec)
        threads = busy_threads(MAX_DECODERS)
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as decoders:
            for run in runs:
                summary = self._score_run(run, known[run], summary, decoders)
        for run in runs:
            for spec in () if summary.stopped else self.specs:
                tidy(self.store, run, spec.name)
        return replace(summary, seconds=round(time.monotonic() - began, 3))

    def _score_run(
        self, run: str, known: frozenset[str], summary: ScoreSummary, decoders: ThreadPoolExecutor
    ) -> ScoreSummary:
        folders = {spec.name: ScoreFolder(self.store, run, spec.name) for spec in self.specs}
        done = {name: self._kept(run, name, folder) for name, folder in folders.items()}
        for record in RunFolder(self.store, run).records():
            shard_id = record.result.shard_id
            wanted = [
                place
                for place, spec in enumerate(self.specs)
                if done[spec.name].get(shard_id, -1) < record.revision
            ]
            summary = replace(summary, standing=summary.standing + len(self.specs) - len(wanted))
            if not wanted:
                continue
            scored = self._score_shard(run, record, wanted, known, decoders)
            if scored is None:
                return replace(summary, stopped=self.stop.reason)
            summary = _added(summary, scored, len(wanted))
            self.note(f"shard {shard_id:05d}: {scored.rows:,} pictures scored")
        return summary

    def _kept(self, run: str, name: str, folder: ScoreFolder) -> Mapping[int, int]:
        """Shard to revision of the scores that stand; those whose file is lost are made again."""
        for shard_id, revision in folder.lost(listed_files(self.store, run, name)).items():
            self.note(f"shard {shard_id:05d}: the file of its {name} scores is lost, made again")
            folder.discard(shard_id, revision)
        return folder.done()

    def _score_shard(
        self,
        run: str,
        record: CommitRecord,
        wanted: Sequence[int],
        known: frozenset[str],
        decoders: ThreadPoolExecutor,
    ) -> _Scored | None:
        """Judge a shard's pictures and commit their scores; None when an end was asked for."""
        began = time.monotonic()
        panel = self.panel.only(wanted)
        keys: list[str] = []
        values: list[Mapping[str, Value]] = []
        faults: list[str] = []
        for batch in self._batches(record, known, decoders):
            if self.stop.is_set():
                return None
            judged = panel.judge([one.pixels for one in batch], [one.prompt for one in batch])
            keys += [one.key for one in batch]
            values += judged.values
            faults += [fault for fault in judged.faults if fault]
        writer = ScoreWriter(self.store, run, self.folder, self.panel)
        seconds = time.monotonic() - began
        missing = 0
        for place in wanted:
            missing += writer.write(self.specs[place], record, keys, values, seconds)
        return _Scored(len(keys), missing, tuple(dict.fromkeys(faults)))

    def _batches(
        self, record: CommitRecord, known: frozenset[str], decoders: ThreadPoolExecutor
    ) -> Iterator[list[_Picture]]:
        """Pictures of a shard, decoded ahead, `batch_size` at a time."""
        names = [name for name in ("key", "prompt", "prompt_syntax") if name in known]
        rows = (
            row
            for batch in shard_rows(self.store, record, names, pictures=True)
            for row in batch.to_pylist()
        )
        size, waiting = self.panel.batch_size, []
        while True:
            fresh = list(islice(rows, size))
            if fresh:
                waiting.append([decoders.submit(_picture, row) for row in fresh])
            if waiting and (len(waiting) > AHEAD or not fresh):
                yield [future.result() for future in waiting.pop(0)]
            elif not fresh:
                return


def known_columns(store: Store, specs: Sequence[ScorerSpec], run: str) -> frozenset[str]:
    """Columns of a run's rows; none of them may be called like a score.

    Raises:
        InputError: One is, or there is no such run.
    """
    job = RunFolder(store, run).read_job()
    if job is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")
    names = frozenset(schema_from_bytes(store.get(job["schema_key"])).names)
    for spec in specs:
        for column in names.intersection(spec.columns):
            raise InputError(
                f"--score {spec.name}={spec.model}: column '{column}' is in the dataset "
                f"already, give it another name, such as {spec.name}2"
            )
    return names


@dataclass(frozen=True, slots=True)
class _Picture:
    key: str
    prompt: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Scored:
    rows: int
    missing: int
    faults: tuple[str, ...]


def _picture(row: Mapping[str, Any]) -> _Picture:
    pixels = decode(row[IMAGE.name]["bytes"], f"picture {row['key']}")
    prompt = plain_prompt(row["prompt"], row.get("prompt_syntax", PLAIN))
    return _Picture(row["key"], prompt, pixels)


def _added(summary: ScoreSummary, scored: _Scored, scorers: int) -> ScoreSummary:
    return replace(
        summary,
        pictures=summary.pictures + scored.rows,
        missing=summary.missing + scored.missing,
        shards=summary.shards + scorers,
        faults=tuple(dict.fromkeys((*summary.faults, *scored.faults)))[:3],
    )
