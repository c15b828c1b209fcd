"""Files of a repository on the Hub, brought into its cache.

The Hub's library transfers them, several at a time, going on where a connection broke off; a
file appears in the cache when it is whole. Around it stand our lock, our look at the disk and
our bar.
"""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.render.weights.fetching import (
    Watch,
    demand_room,
    interruptible,
    one_at_a_time,
    watched,
)
from sdbatch.render.weights.hub_cache import Repo, library, present

INFO_S = 20.0


def bring(
    repo: Repo, commit: str, sizes: Mapping[str, int], files: Sequence[str], watch: Watch
) -> None:
    """Fetch what is missing of these files, after a look at the disk."""
    folder = repo.snapshot(commit)
    total = sum(sizes[file] for file in files)

    def arrived() -> int:
        return present(folder, sizes, files) + sum(repo.in_flight().values())

    if all((folder / file).is_file() for file in files):
        return
    with (
        watched(watch, total, arrived),
        one_at_a_time(repo.lock, watch.waiting),
    ):
        if all((folder / file).is_file() for file in files):
            return  # whoever held the lock has brought them
        repo.sweep()
        demand_room(repo.name, total - present(folder, sizes, files), repo.folder)
        download(repo, commit, files)


def download(repo: Repo, commit: str, files: Sequence[str]) -> None:
    """Fetch those of the files that are not cached.

    Raises:
        ModelError: The repository has none of that name.
    """
    patterns = [glob.escape(file) for file in files]
    stopping = threading.Event()
    fetch = partial(
        library("huggingface_hub").snapshot_download,
        repo.name,
        revision=commit,
        allow_patterns=patterns,
        tqdm_class=_unseen_bar(stopping),
    )
    interruptible(fetch, stopping)
    missing = [file for file in files if not (repo.snapshot(commit) / file).is_file()]
    if missing:
        raise ModelError(f"model {repo.name}: has no {missing[0]}{_single_files(repo, commit)}")


def _single_files(repo: Repo, commit: str) -> str:
    """What else a repository without an index could be used by."""
    files = [file for file in repo.sizes(commit) if file.endswith(".safetensors")]
    alone = [file for file in files if "/" not in file]
    return f", so no diffusers model; name a file: {repo.name}/{alone[0]}" if alone else ""


def resolve(repo: str, revision: str) -> str:
    """The commit that a branch or tag stands for now."""
    info = library("huggingface_hub").HfApi().model_info(repo, revision=revision, timeout=INFO_S)
    return str(info.sha)


def listed(repo: str, commit: str) -> dict[str, int]:
    """Every file of a commit with its size in bytes, asked of the Hub."""
    tree = library("huggingface_hub").HfApi().list_repo_tree(repo, revision=commit, recursive=True)
    return {entry.path: int(entry.size) for entry in tree if hasattr(entry, "size")}


def _unseen_bar(stopping: threading.Event) -> Any:
    """A progress bar that shows nothing, ours watches the folder; it ends transfers when told."""
    tqdm: Any = library("tqdm").tqdm

    class Unseen(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if stopping.is_set():
                raise InterruptedError("the fetch was stopped")
            super().update(n)

    return Unseen


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's advice off the terminal; what matters becomes an error."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
