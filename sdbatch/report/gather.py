"""Everything a report says of a dataset, read once from its records and its small files.

Commit records give counts and times, `metadata/` the columns, and a few shards the
pictures. Memory holds counts, one batch of rows and the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sdbatch.audit.errors import FailureGroup, find_failures
from sdbatch.audit.pictures import shard_rows
from sdbatch.audit.status import Status, read_status
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.report.sample import Card, Lot, Spread, draw_cards, shares
from sdbatch.report.tally import Distribution, Tallies
from sdbatch.report.timing import Clockwork, Timing
from sdbatch.results import DataFile
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store
from sdbatch.transfer.score_files import JoinedScores
from sdbatch.transfer.sources import Scores


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says.

    Attributes:
        statuses: How each run stands, in the order of the runs.
        columns: Distributions over every committed picture, failed ones included.
        cards: The sample; `committed` counts the pictures it was taken from.
        groups: Failures by type and message, most frequent first.
        unread: Files that could not be read; what they hold is missing here.
    """

    url: str
    made_at: datetime
    statuses: tuple[Status, ...]
    settings: dict[str, object]
    columns: tuple[Distribution, ...]
    cards: tuple[Card, ...]
    timing: Timing
    groups: tuple[FailureGroup, ...]
    unread: tuple[str, ...]

    def total(self, name: str) -> int:
        """A count of `Status`, over all runs."""
        return sum(int(getattr(status, name)) for status in self.statuses)

    @property
    def committed(self) -> int:
        """Pictures that have ended in whatever way."""
        return self.total("success") + self.total("failed") + self.total("filtered")


def gather(store: Store, runs: Sequence[str], max_pictures: int) -> Facts:
    """Read what a report needs.

    Args:
        runs: Names of runs, `main` first.
        max_pictures: Most pictures of the sample.

    Raises:
        InputError: There is no such run.
        DamagedError: A record cannot be read.
    """
    statuses = tuple(read_status(store, run) for run in runs)
    clock, tallies, scores = Clockwork(), Tallies(), JoinedScores(store)
    spreads = _spreads(statuses, max_pictures)
    chosen: list[Lot] = []
    unread: list[str] = []
    for run in runs:
        for record in RunFolder(store, run).records():
            clock.add(record.result)
            for lot in _lots(run, record, spreads):
                chosen += [lot] if lot.count else []
                unread += _count(store, lot, tallies, scores)
    cards = sorted(draw_cards(store, chosen, scores), key=lambda card: card.key)
    return Facts(
        url=store.url,
        made_at=datetime.now(UTC),
        statuses=statuses,
        settings=dict((RunFolder(store, runs[0]).read_job() or {}).get("resolved", {})),
        columns=tuple(tallies.results()),
        cards=tuple(cards),
        timing=clock.result(),
        groups=tuple(find_failures(store, runs).groups),
        unread=tuple(unread),
    )


def _spreads(statuses: Sequence[Status], max_pictures: int) -> dict[str, Spread]:
    """Which rows of each kind of file are shown."""
    names = {"data": "success", "errors": "failed", "filtered": "filtered"}
    counts = {
        kind: sum(int(getattr(status, name)) for status in statuses) for kind, name in names.items()
    }
    wanted = shares(counts["data"], counts["errors"], counts["filtered"], max_pictures)
    return {kind: Spread(counts[kind], wanted[kind]) for kind in names}


def _lots(run: str, record: CommitRecord, spreads: Mapping[str, Spread]) -> list[Lot]:
    files: dict[str, DataFile] = dict(record.files)
    return [
        Lot(run, record, kind, file.num_rows, file.size_bytes, spread.take(file.num_rows))
        for kind, spread in spreads.items()
        if (file := files.get(kind)) is not None and file.num_rows
    ]


def _count(store: Store, lot: Lot, tallies: Tallies, scores: Scores) -> list[str]:
    """Count the columns of a lot; the files that could not be read."""
    try:
        for batch in shard_rows(store, lot.record, kind=lot.kind):
            tallies.add(lot.with_scores(batch, scores))
    except DamagedError as error:
        return [error.key]
    except ObjectNotFoundError as error:
        return [str(error)]
    return []
