"""What Python and the command line call: export a dataset, push it to the Hub, name its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from sdbatch.storage.store import open_store
from sdbatch.transfer.export import Export
from sdbatch.transfer.hub import Address, Hub
from sdbatch.transfer.push import Push, PushSummary, demand_local
from sdbatch.transfer.score_files import JoinedScores
from sdbatch.transfer.summary import ExportSummary


class Listener(Protocol):
    """Told how it goes, in lines."""

    def note(self, line: str) -> None:
        """Show one line."""


def export(
    out: str | Path,
    dest: str | Path,
    *,
    format: Literal["parquet", "webdataset", "files", "imagefolder"] | None = None,
    where: str | None = None,
    folder_by: str | None = None,
    name: str | None = None,
    captions: Literal["txt"] | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    split: str | Mapping[str, float] | None = None,
    shard_mb: int | None = None,
    latest: bool | None = None,
    report: Listener | None = None,
) -> ExportSummary:
    """Write the pictures of a dataset in another form; the same call adds what is new later.

    What a call leaves out (None) is what the first call of this DEST said, or the default.

    Args:
        out: Folder or URL of the dataset, finished or not.
        dest: Folder or URL of the export: empty, or an export that was begun.
        format: `parquet`, `webdataset`, `files`, `imagefolder`.  Default `parquet`.
        where: Only rows for which this holds, such as `clip_score > 0.25 and not is_blank`.
        folder_by: Column whose values are folders of pictures.
        name: Names of files from columns, such as `{id}_{seed}`.  Default the key.
        captions: `txt` writes the prompt beside each picture.
        shuffle: Write rows in random order.
        seed: Of that order.  Default 0.
        split: Shares by name, `train=0.95,val=0.05`, drawn by the key of each picture.
        shard_mb: Most megabytes of pictures in a file.  Default 256.
        latest: Of rows that stand in several runs only those of the newest.
        report: Told how it goes; None is silent.

    Raises:
        InputError: A term cannot be met, or DEST holds something else.
        PlanChangedError: DEST holds an export by other terms.
        LeaseHeldError: Another export is at work there.
        StorageError: A store or the local disk failed; the same call goes on.
    """
    said = {
        "format": format,
        "where": where,
        "folder_by": folder_by,
        "name": name,
        "captions": captions,
        "shuffle": shuffle,
        "seed": seed,
        "split": split,
        "latest": latest,
    }
    note: Callable[[str], None] = report.note if report else _say_nothing
    store = open_store(out)
    scores = JoinedScores(store)
    call = Export(store, open_store(dest), said, shard_mb=shard_mb, note=note, scores=scores)
    return call.run()


def push(
    out: str | Path,
    url: str,
    *,
    where: str | None = None,
    shuffle: bool | None = None,
    seed: int | None = None,
    split: str | Mapping[str, float] | None = None,
    latest: bool | None = None,
    shard_mb: int | None = None,
    public: bool = False,
    spool: str | Path | None = None,
    report: Listener | None = None,
) -> PushSummary:
    """Bring a dataset to the Hugging Face Hub as large Parquet files; the same call goes on.

    The token is that of `huggingface_hub`: HF_TOKEN, or what `hf auth login` stored.

    Args:
        out: Folder or URL of the dataset, finished or not.
        url: `hf://datasets/USER/NAME[@BRANCH]`; made if it is not there.
        where: As for `export`, and so are `shuffle`, `seed`, `split` and `latest`.
        shard_mb: Most megabytes of pictures in a file.  Default 500.
        public: Make a repository that everybody sees; one that stands keeps what it is.
        spool: Local folder for the files on their way; it holds all that is pushed.  Default a
            folder in this user's cache.
        report: Told how it goes; None is silent.

    Raises:
        InputError: A term cannot be met, the address is none, or nobody is logged in.
        StorageError: The Hub, a store or the local disk failed; the same call goes on.
    """
    note: Callable[[str], None] = report.note if report else _say_nothing
    hub = Hub(Address.parse(url), note)
    terms = {
        "where": where,
        "shuffle": shuffle,
        "seed": seed,
        "split": split,
        "latest": latest,
    }
    return Push(open_store(out), hub, terms, note, demand_local(spool), shard_mb, public).run()


def _say_nothing(_line: str) -> None:
    """Nobody wants to know."""
