"""A dataset that was rendered, or is being rendered, as one asks it from Python.

`sdbatch.open_dataset` gives one. Everything here answers from storage alone, on any machine,
without a cluster; only `replay` loads a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.audit.errors import Failures, find_failures
from sdbatch.audit.gc import collect_orphans
from sdbatch.audit.logs import LATEST, LogLine, read_logs
from sdbatch.audit.report import Report as VerifyReport
from sdbatch.audit.status import Status, read_status
from sdbatch.audit.verify import verify as verify_dataset
from sdbatch.engine.replay import replay
from sdbatch.engine.replay_report import ReplayReport
from sdbatch.engine.stored_rows import Key
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store


@dataclass(frozen=True)
class Dataset:
    """What one can ask of a dataset without a cluster."""

    store: Store

    def status(self) -> Status:
        """How its run stands.

        Raises:
            InputError: There is no run.
        """
        return read_status(self.store)

    def verify(self, level: int = 1, sample: float = 1.0) -> VerifyReport:
        """Check it against its records, from counts (0) to every picture (3).

        Args:
            sample: Share of the shards whose files levels 2 and 3 read.
        """
        return verify_dataset(self.store, level=level, sample=sample)

    def files(self) -> list[str]:
        """Paths or URLs of the committed files of `data/`, by shard."""
        return [self.store.join(record.result.data.key) for record in self._records()]

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of all committed pictures, without the pictures unless `image` is asked for."""
        return self._read("data" if columns and "image" in columns else "metadata", columns)

    def errors(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows that failed, with type, message and traceback."""
        return self._read("errors", columns)

    def failures(self, *, error_type: str | None = None) -> Failures:
        """What failed, in groups of one type and message, most frequent first.

        Args:
            error_type: Only failures of this type.

        Raises:
            InputError: There is no run, or nothing failed with this type.
        """
        return find_failures(self.store, error_type=error_type)

    def logs(
        self,
        *,
        shard: int | None = None,
        row: int | None = None,
        worker: str | None = None,
        level: str = "info",
        session: str = LATEST,
        tail: int | None = None,
    ) -> Iterator[LogLine]:
        """What drivers and workers wrote down, oldest line first.

        Args:
            shard: Only lines about this shard.
            row: Only lines about this manifest row.
            worker: Only lines of or about this worker.
            level: At least this serious: `debug`, `info`, `warning`, `error`.
            session: `latest`, `all`, or the name of one call of `render`.
            tail: Only the last so many of them.

        Raises:
            InputError: There is no run, or no such session.
        """
        return read_logs(
            self.store,
            shard=shard,
            row=row,
            worker=worker,
            level=level,
            session=session,
            tail=tail,
        )

    def replay(
        self, keys: Sequence[Key], *, model: str | None = None, out: str | Path | None = None
    ) -> ReplayReport:
        """Draw pictures again from the dataset alone and compare pixels; loads the model.

        Args:
            keys: Of the column `key`, or row numbers for all pictures of a row.
            model: Where the planned weights lie, if not where the plan found them.
            out: Local folder for pictures to look at.

        Raises:
            InputError: A key is not here.
            ModelError: The planned weights are not here.
        """
        return replay(self.store, keys, model=model or "", out=Path(out) if out else None)

    def collect_orphans(self, *, dry_run: bool = False) -> list[str]:
        """Delete files that no record of the finished run names; returns their keys.

        Raises:
            InputError: The run is not finished.
        """
        return collect_orphans(self.store, dry_run=dry_run)

    def _records(self) -> Iterator[CommitRecord]:
        return RunFolder(self.store).records()

    def _read(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        tables = []
        for record in self._records():
            for of, file in record.files:
                if of == kind:
                    with self.store.open(file.key) as opened:
                        tables.append(pq.read_table(opened, columns=columns, use_threads=False))
        return pa.concat_tables(tables) if tables else pa.table({})
