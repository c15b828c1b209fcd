"""Records of scores that were made after a run: which shard, of which bytes, by which model.

A scorer's name belongs to one revision of one model for as long as the dataset stands:
`scorer.json` is created once. Each shard's scores are a file and a record of it, created once
for a revision of the shard; a shard that a retry changed is scored again, and the old record
says that it speaks of other bytes. Files are stored before the record that names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.model_specs import ScorerSpec
from sdbatch.results import DataFile
from sdbatch.storage import layout, score_layout
from sdbatch.storage.record import PROTOCOL, read_current, to_line
from sdbatch.storage.store import Store

READERS = 16


@dataclass(frozen=True, slots=True)
class ScoreRecord:
    """The scores of one revision of a shard.

    Attributes:
        shard_id, revision: Of which commit record.
        data_sha256: Of the data file that was looked at.
        scorer: Revision of the model.
        file: Key and scores of each row of `data/`, in its order.
        missing: Rows without a score.
        device: What it was computed on.
        batch_size: Pictures at a time; decides last digits.
        seconds: Spent on it.
    """

    shard_id: int
    revision: int
    data_sha256: str
    scorer: str
    file: DataFile
    missing: int
    device: str
    batch_size: int
    seconds: float


class ScoreFolder:
    """The records of one scorer over one run."""

    def __init__(self, store: Store, run: str, name: str) -> None:
        score_layout.scores_prefix(run, name)
        self._store, self._run, self._name = store, run, name

    def done(self) -> dict[int, int]:
        """Shard to the newest of its revisions that has scores, from names alone."""
        found: dict[int, int] = {}
        for info in self._store.list(
            f"{score_layout.scores_prefix(self._run, self._name)}commits/"
        ):
            parsed = layout.parse_commit(info.key)
            if parsed is not None:
                found[parsed[0]] = max(parsed[1], found.get(parsed[0], 0))
        return found

    def record(self, shard_id: int, revision: int) -> ScoreRecord | None:
        """The record of a revision of a shard, or None.

        Raises:
            DamagedError: It cannot be read.
        """
        key = score_layout.score_key(self._run, self._name, shard_id, revision)
        try:
            body = read_current(self._store, key)
            fields = {name: body[name] for name in ScoreRecord.__dataclass_fields__}
            return ScoreRecord(**{**fields, "file": DataFile(**body["file"])})
        except ObjectNotFoundError:
            return None
        except (KeyError, TypeError) as error:
            raise DamagedError(self._store.join(key), f"is no score record ({error})") from error

    def lost(self, sizes: Mapping[str, int]) -> dict[int, int]:
        """Shards of `done` whose file is gone or cut, as far as its size tells.

        Args:
            sizes: Key to bytes of the files that are there.
        """
        done = self.done()
        with ThreadPoolExecutor(READERS, thread_name_prefix="scores") as pool:
            records = pool.map(lambda place: self.record(*place), done.items())
            return {
                record.shard_id: record.revision
                for record in records
                if record is not None and sizes.get(record.file.key) != record.file.size_bytes
            }

    def discard(self, shard_id: int, revision: int) -> None:
        """Forget the scores of a shard whose file is lost, so that it can be scored again."""
        self._store.delete(score_layout.score_key(self._run, self._name, shard_id, revision))

    def commit(self, record: ScoreRecord) -> bool:
        """Make the scores of a shard exist; False when others were first."""
        key = score_layout.score_key(self._run, self._name, record.shard_id, record.revision)
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        body = {"protocol": PROTOCOL, "created_at": created_at, **asdict(record)}
        if self._store.create_once(key, to_line(body)):
            return True
        standing = self.record(record.shard_id, record.revision)
        return standing is not None and standing.file == record.file


def score_names(store: Store) -> list[str]:
    """Names of all scorers of a dataset, sorted."""
    keys = (info.key for info in store.list(score_layout.scores_prefix(layout.MAIN)))
    return sorted({name for key in keys if (name := score_layout.parse_scorer(key)) is not None})


def scorer_of(store: Store, name: str) -> Mapping[str, Any] | None:
    """What `scorer.json` says of a name; None when nothing was scored so."""
    try:
        return read_current(store, score_layout.scorer_key(name))
    except ObjectNotFoundError:
        return None


def claim_name(store: Store, spec: ScorerSpec) -> None:
    """Bind a name to a model, once for the dataset.

    Raises:
        InputError: The name stands for other weights.
    """
    body = {
        "protocol": PROTOCOL,
        "name": spec.name,
        "kind": spec.kind,
        "model": spec.model,
        "revision": spec.revision,
        "columns": list(spec.columns),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    key = score_layout.scorer_key(spec.name)
    standing = body if store.create_once(key, to_line(body)) else read_current(store, key)
    if standing.get("revision") != spec.revision:
        raise InputError(
            f"{store.url}: score '{spec.name}' was made with {standing.get('model')}, revision "
            f"{str(standing.get('revision'))[:12]}, this is {spec.revision[:12]}: give the new one "
            f"another name, such as {spec.name}2"
        )
