"""The card of a dataset of several runs: all their files and counts, whoever writes it.

A card is written at the end of any run, and two runs may end at the same time. So a card says
in its last line which success records it was made from: who wrote it looks once more
whether they are still the newest, and who comes later sees whether it is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sdbatch.dataset.card import CardFacts, RunLine
from sdbatch.engine import job_folder
from sdbatch.errors import DamagedError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import all_runs, appended_runs, finished_runs
from sdbatch.storage.store import Store

CARD_KEY = "README.md"
_STAMP = re.compile(rb"^<!-- sdbatch runs: (.*) -->$", re.MULTILINE)


@dataclass(frozen=True)
class FinishedRun:
    """A run as its newest success record has it.

    Attributes:
        success: That record.
        model: Name and revision.
        exact: Kinds whose folder holds the files of the record and no others of the run.
    """

    run: str
    success: Mapping[str, Any]
    model: tuple[str, str]
    exact: frozenset[str]

    def files(self, kind: str) -> tuple[str, ...]:
        """What the card lists of a kind: patterns where they are exact, else names."""
        named = [str(file["key"]) for file in self.success["files"] if file["kind"] == kind]
        if kind not in self.exact or not named:
            return tuple(named)
        suffixes = {name.rpartition(".")[2] for name in named}
        folder = layout.data_prefix(kind, self.run)
        return tuple(f"{folder}*.{suffix}" for suffix in sorted(suffixes))

    def size_bytes(self, kind: str) -> int:
        """Size of its files of a kind."""
        return sum(int(one["size_bytes"]) for one in self.success["files"] if one["kind"] == kind)


def stamp(stands: Mapping[str, int]) -> bytes:
    """The last line of a card: run to the number of the success record it was made from."""
    said = ", ".join(f"{run} {number}" for run, number in stands.items())
    return f"\n<!-- sdbatch runs: {said} -->\n".encode()


def is_card_stale(store: Store) -> bool:
    """Whether the card is missing, or older than a run of the dataset.

    A card without a stamp is a person's own, or of a version that knew one run.
    """
    if store.head(CARD_KEY) is None:
        return True
    if not appended_runs(store):
        return False
    said = _STAMP.search(store.get(CARD_KEY))
    return said is None or said[0] != stamp(finished_runs(store)).strip()


def name_files(store: Store, run: str) -> None:
    """Let the card name the files of a finished run one by one, where it has patterns for them.

    Before a rework: its files lie beside those that they replace until all of it stands, and a
    pattern would give readers both. Whatever else the card says stays.
    """
    if store.head(CARD_KEY) is None:
        return
    try:
        files = (RunFolder(store, run).success() or {}).get("files", ())
    except DamagedError:
        return  # what a repair is for; its end writes the card anew
    front, end, text = store.get(CARD_KEY).partition(b"\n---\n")
    named = front
    for kind in layout.KINDS:
        keys = [str(file["key"]).encode() for file in files if file["kind"] == kind]
        prefix = re.escape(layout.data_prefix(kind, run).encode())
        pattern = re.compile(rb"^( *- )" + prefix + rb"\*\.[a-z]+$", re.MULTILINE)
        if keys:
            named = pattern.sub(partial(_one_by_one, keys), named)
    if named != front:
        store.put(CARD_KEY, named + end + text)


def _one_by_one(keys: Sequence[bytes], line: re.Match[bytes]) -> bytes:
    return b"\n".join(line[1] + key for key in keys)


def finished_run(store: Store, run: str) -> FinishedRun | None:
    """What stands of a run; None when it is not finished."""
    success, job = RunFolder(store, run).success(), job_folder.read(store, run)
    if success is None or job is None:
        return None
    named = {str(file["key"]) for file in success["files"]}
    exact = (
        kind
        for kind in layout.KINDS
        if all(
            info.key in named
            for info in store.list(layout.data_prefix(kind, run))
            if layout.parse_data(info.key, run)
        )
    )
    model = (job.spec.render.model, job.spec.render.model_revision)
    return FinishedRun(run, success, model, frozenset(exact))


def with_other_runs(store: Store, run: str, facts: CardFacts) -> CardFacts:
    """The facts of one run, with those of all other finished runs added; `main` comes first."""
    runs = all_runs(store)
    if runs == [run]:
        return facts
    lines = []
    joined = facts
    before: list[FinishedRun] = []
    after: list[FinishedRun] = []
    for name in runs:
        if name == run:
            model = (facts.model, facts.model_revision)
            lines.append(RunLine(run, *model, facts.success, facts.failed))
        elif other := finished_run(store, name):
            (after if run in runs[: runs.index(name)] else before).append(other)
            counts = (int(other.success["success"]), int(other.success["failed"]))
            lines.append(RunLine(name, *other.model, *counts))
    for other in (*before, *after):
        joined = _added(joined, other)
    # A layout whose metadata is no configuration has none for the other kinds either.
    kinds = layout.KINDS if facts.metadata_files else ("data",)
    files: dict[str, Any] = {f"{kind}_files": _files(kind, before, facts, after) for kind in kinds}
    return replace(joined, runs=tuple(lines), **files)


def _added(facts: CardFacts, other: FinishedRun) -> CardFacts:
    counts = dict(facts.error_counts)
    for name, number in other.success["errors"].items():
        counts[name] = counts.get(name, 0) + int(number)
    return replace(
        facts,
        images=facts.images + int(other.success["images"]),
        success=facts.success + int(other.success["success"]),
        failed=facts.failed + int(other.success["failed"]),
        filtered=facts.filtered + int(other.success["filtered"]),
        size_bytes=facts.size_bytes + other.size_bytes("data"),
        metadata_bytes=facts.metadata_bytes + other.size_bytes("metadata"),
        errors_bytes=facts.errors_bytes + other.size_bytes("errors"),
        filtered_bytes=facts.filtered_bytes + other.size_bytes("filtered"),
        error_counts=counts,
    )


def _files(
    kind: str, before: list[FinishedRun], facts: CardFacts, after: list[FinishedRun]
) -> tuple[str, ...]:
    def named(runs: list[FinishedRun]) -> Iterator[str]:
        for one in runs:
            yield from one.files(kind)

    own: tuple[str, ...] = getattr(facts, f"{kind}_files")
    return (*named(before), *own, *named(after))
