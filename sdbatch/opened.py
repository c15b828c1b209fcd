"""A dataset that was rendered, or is being rendered, as one asks it from Python.

`sdbatch.open_dataset` gives one. Everything here answers from storage alone, on any machine
and without a cluster; only `replay` and `retry` load a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from sdbatch.audit.across import (
    begun_runs,
    collect_runs,
    failures_of,
    latest_run,
    status_of,
    verify_runs,
)
from sdbatch.audit.committed_files import committed_files
from sdbatch.audit.errors import Failures
from sdbatch.audit.logs import LogLine, LogOptions, read_logs
from sdbatch.audit.pictures import committed_rows
from sdbatch.audit.report import Report as VerifyReport
from sdbatch.audit.status import Status
from sdbatch.audit.watching import Watch
from sdbatch.dataset.schema import IMAGE, errors_schema, metadata_schema, schema_from_bytes
from sdbatch.engine.nightly import run_of
from sdbatch.engine.replay import replay
from sdbatch.engine.replay_report import ReplayReport
from sdbatch.engine.rework_summary import RetrySummary
from sdbatch.engine.stored_rows import Key
from sdbatch.report.notebook import Pictures
from sdbatch.report.picking import SOME, pick_pictures
from sdbatch.reworking import retry
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store
from sdbatch.transfer.doors import export
from sdbatch.transfer.hugging_face import to_hf
from sdbatch.transfer.summary import ExportSummary

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Dataset:
    """What one can ask of a dataset without a cluster."""

    store: Store

    def runs(self) -> list[str]:
        """Names of its runs: `main`, then those that were appended."""
        return begun_runs(self.store)

    def status(self, *, run: str | None = None) -> Status:
        """How a run stands; None adds up all of them.

        Raises:
            InputError: There is no run.
        """
        return status_of(self.store, run)

    def watch(self, *, run: str | None = None) -> Watch:
        """Looks at a run again and again at little cost; None takes that driven last.

        Raises:
            InputError: There is no such run.
        """
        return Watch(self.store, run)

    def verify(
        self, level: int = 1, sample: float = 1.0, *, run: str | None = None
    ) -> VerifyReport:
        """Check it against its records, from counts (0) to every picture (3).

        Args:
            sample: Share of the shards whose files levels 2 and 3 read.
            run: One run; None checks all of them.
        """
        return verify_runs(self.store, run, level, sample)

    def files(self, kind: str = "data") -> list[str]:
        """Paths or URLs of the committed files of a kind, by run and shard.

        Args:
            kind: `data`, `metadata`, `errors` or `filtered`.

        Raises:
            InputError: There is no run, or no such kind.
        """
        return [file.url for file in committed_files(self.store, kind)]

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of all committed pictures, without the pictures unless `image` is asked for.

        Raises:
            InputError: There is no such column.
        """
        return self._table("data", columns)

    def errors(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows that failed, with type, message and traceback."""
        return self._table("errors", columns)

    def to_hf(self) -> datasets.Dataset:
        """All committed pictures as a dataset of Hugging Face `datasets`, in its cache.

        Raises:
            InputError: `datasets` is not installed, or there is no run.
        """
        return to_hf(self.store, self.runs())

    def pictures(self, where: str | None = None, limit: int = SOME) -> Pictures:
        """The first pictures that a condition chooses; a notebook shows them as a grid.

        Args:
            where: Such as `clip_score > 0.25 and not is_blank`; None takes all.
            limit: Most pictures; their files are held in memory.

        Raises:
            InputError: The condition cannot be read or names no column, or there is no run.
            DamagedError: A file cannot be read.
        """
        return pick_pictures(self.store, where, limit)

    def failures(self, *, error_type: str | None = None, run: str | None = None) -> Failures:
        """What failed, in groups of one type and message, most frequent first.

        Args:
            error_type: Only failures of this type.
            run: Only of this run; None takes all of them.

        Raises:
            InputError: There is no run, or nothing failed with this type.
        """
        return failures_of(self.store, run, error_type)

    def logs(self, *, run: str | None = None, **wanted: Unpack[LogOptions]) -> Iterator[LogLine]:
        """What drivers and workers wrote down, oldest line first.

        Args:
            run: Of this run; None takes the one that was driven last.
            wanted: Which lines, see `LogOptions`.

        Raises:
            InputError: There is no run, or no such session.
        """
        name = latest_run(self.store) if run is None else run_of(self.store, run)
        return read_logs(self.store, name, **wanted)

    def replay(
        self,
        keys: Key | Sequence[Key],
        *,
        model: str | None = None,
        models_dir: str = "",
        out: str | Path | None = None,
        run: str | None = None,
    ) -> ReplayReport:
        """Draw pictures again from the dataset alone and compare pixels; loads the model.

        Args:
            keys: Of the column `key`, or row numbers for all pictures of a row.
            model: Where the planned weights lie, if not where the plan found them.
            models_dir: Where bare names are looked up before SDBATCH_MODELS.
            out: Local folder for pictures to look at.
            run: That of the keys; None takes it from the keys, `main` for row numbers.

        Raises:
            InputError: A key is not here.
            ModelError: The planned weights are not here.
        """
        chosen = [keys] if isinstance(keys, str | int) else keys
        folder = Path(out) if out else None
        return replay(
            self.store, chosen, model=model or "", models_dir=models_dir, out=folder, run=run
        )

    def retry(self, **options: Any) -> RetrySummary:
        """Draw what failed once more; takes what `sdbatch.retry` takes after its output."""
        return retry(self.store.url, **options)

    def export(self, dest: str | Path, **options: Any) -> ExportSummary:
        """Write it in another form; takes what `sdbatch.api.export` takes after DEST."""
        return export(self.store.url, dest, **options)

    def collect_orphans(self, *, dry_run: bool = False, run: str | None = None) -> list[str]:
        """Delete files that no record of the finished run names; returns their keys.

        Args:
            run: Only of this run; None takes all that are finished.

        Raises:
            InputError: The run is not finished.
        """
        return collect_runs(self.store, run, dry_run)

    def _table(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        """Rows of all runs; columns and types come from the plan where there is no row."""
        pictures = columns is not None and IMAGE.name in columns
        batches = [
            batch
            for run in self.runs()
            for batch in committed_rows(self.store, run, columns, pictures, kind)
        ]
        if batches:
            return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches])
        job = RunFolder(self.store, self.runs()[0]).read_job()
        if job is None:
            return pa.table({})
        whole = schema_from_bytes(self.store.get(job["schema_key"]))
        schema = errors_schema(whole) if kind == "errors" else metadata_schema(whole)
        return schema.empty_table().select(columns if columns is not None else schema.names)
