"""What a retry or a repair is to make again, told from records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sdbatch.engine.take_over import DAMAGED, FAILED, FILTERED
from sdbatch.errors import DamagedError, InputError
from sdbatch.manifest.schema import MAX_SEED
from sdbatch.records import Redo
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

HEADS = 16  # files looked at at the same time
KINDS = (FAILED, FILTERED)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made again.

    Attributes:
        shards: Those that hold a picture it concerns.
        say: One line for a person, before it begins.
    """

    redo: Redo
    shards: tuple[int, ...]
    say: str


def redo_of(only: str, error_types: Iterable[str], reseed: int | None) -> Redo:
    """A checked wish for a retry.

    Raises:
        InputError: The parts of it contradict one another.
    """
    types = tuple(sorted(set(error_types)))
    if only not in KINDS:
        raise InputError(f"--only {only}: one of {', '.join(KINDS)}")
    if only == FILTERED and types:
        raise InputError("--error-type: is said of failed pictures, leave it out or --only failed")
    if only == FILTERED and reseed is None:
        raise InputError(
            "--only filtered: the same seeds give the same pictures again, add --reseed 1"
        )
    if reseed is not None and not 0 <= reseed <= MAX_SEED:
        raise InputError(f"--reseed {reseed}: a whole number from 0 to {MAX_SEED}")
    return Redo(only, types, reseed)


def count_redone(redo: Redo, result: ShardResult) -> int:
    """Pictures of a shard that a retry draws again."""
    if redo.kind == FILTERED:
        return result.filtered
    if redo.kind == DAMAGED:
        return 0
    if redo.error_types:
        return sum(result.errors.get(name, 0) for name in redo.error_types)
    return result.failed


def choose_failed(redo: Redo, folder: RunFolder, store: Store) -> Wish | str:
    """The shards that a retry concerns, or why there is none.

    Raises:
        InputError: An error type is not among those of the dataset.
        DamagedError: Standing files of such a shard are not there.
    """
    known: Counter[str] = Counter()
    chosen: list[int] = []
    files: list[DataFile] = []
    pictures = 0
    for record in folder.records():
        known.update(record.result.errors)
        count = count_redone(redo, record.result)
        if count:
            chosen.append(record.result.shard_id)
            files += [file for _, file in record.files]
            pictures += count
    if known:
        _demand_known(redo, known)
    if not chosen:
        return f"nothing to retry: no picture {_ended(redo)}"
    _demand_there(store, files)
    seeds = "" if redo.reseed is None else f", from other seeds (--reseed {redo.reseed})"
    shown = f"{redo.kind} picture" + ("s" if pictures > 1 else "")
    say = f"retry: {pictures:,} {shown} in {len(chosen):,} shards{seeds}"
    return Wish(redo, tuple(chosen), say)


def _ended(redo: Redo) -> str:
    return "was filtered" if redo.kind == FILTERED else "failed"


def _demand_known(redo: Redo, known: Counter[str]) -> None:
    for name in redo.error_types:
        if name not in known:
            there = ", ".join(f"{each} {count:,}" for each, count in known.most_common())
            raise InputError(f"--error-type {name}: no picture failed so, there are: {there}")


def _demand_there(store: Store, files: Iterable[DataFile]) -> None:
    """A retry takes over what stands; what is gone is for a repair to make good."""
    with ThreadPoolExecutor(HEADS, thread_name_prefix="head") as pool:
        for file, info in pool.map(lambda file: (file, store.head(file.key)), files):
            if info is None or info.size_bytes != file.size_bytes:
                found = "is not there" if info is None else f"{info.size_bytes:,} bytes"
                raise DamagedError(
                    store.join(file.key),
                    f"{found}, its record says {file.size_bytes:,} bytes: "
                    f"run first: sdbatch repair {store.url}",
                )
