"""The files that a dataset consists of at this moment, finished or not.

Who reads a dataset while it grows must not list its folders: files of attempts that lost lie
there too until they are collected. What standing records name is exact at every moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import choose_runs
from sdbatch.storage.store import Store


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A file that a standing record names.

    Attributes:
        kind: One of `layout.KINDS`.
        url: Where other programs open it.
    """

    kind: str
    run: str
    shard_id: int
    key: str
    url: str
    num_rows: int
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def committed_files(
    store: Store, kind: str | None = "data", run: str | None = None
) -> Iterator[CommittedFile]:
    """Files of standing records, run by run and shard by shard.

    Args:
        kind: `data`, `metadata`, `errors` or `filtered`; None for all.
        run: Only of this run; None for all.

    Raises:
        InputError: There is no run, or no such kind.
        DamagedError: A record cannot be read.
    """
    if kind is not None and kind not in layout.KINDS:
        raise InputError(f"--kind {kind}: one of {', '.join(layout.KINDS)}")
    return _files(store, kind, _standing_runs(store, run))


def _standing_runs(store: Store, run: str | None) -> list[str]:
    """Runs that have begun to be; refused here, before anything is asked of the answer."""
    runs = choose_runs(store, run)
    begun = [one for one in runs if RunFolder(store, one).read_job() is not None]
    if not begun:
        raise InputError(
            f"{store.url}: holds no run '{runs[0]}', name the output of sdbatch render"
        )
    return begun


def _files(store: Store, kind: str | None, runs: list[str]) -> Iterator[CommittedFile]:
    for run in runs:
        for record in RunFolder(store, run).records():
            for of, file in record.files:
                if kind in (None, of):
                    yield CommittedFile(
                        of, run, record.result.shard_id, file.key, store.join(file.key),
                        file.num_rows, file.size_bytes, file.sha256,
                    )  # fmt: skip
