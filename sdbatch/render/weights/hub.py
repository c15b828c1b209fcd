"""A model on the Hugging Face Hub becomes a folder on this machine.

What is cached is used as it lies: no question goes out, so a run does not depend on the
network once a model is there. Of the rest only what a renderer reads is fetched, by one
process of a machine at a time. The library is imported only when an id is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.render.weights.fetching import Watch, one_at_a_time
from sdbatch.render.weights.hub_address import HALF_MARK, HubAddress, commit_of
from sdbatch.render.weights.hub_cache import Repo, library, present
from sdbatch.render.weights.hub_errors import hub_errors
from sdbatch.render.weights.hub_transfer import bring, download, listed, quiet, resolve
from sdbatch.render.weights.model_files import INDEX, Choice, choose_files
from sdbatch.render.weights.model_revision import PARTS

SCORER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.pth"]
NO_SCORER_FILES = [*(f"{part}/*" for part in PARTS), "*.fp16.safetensors", "*.msgpack", "v1-*"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model as it lies here.

    Attributes:
        folder: Where its files are read; configurations alone while weights are missing.
        revision: Which weights these are.
        weights_bytes: Size of its weights.
        missing_bytes: What of them has yet to be fetched.
    """

    folder: Path
    revision: str
    weights_bytes: int
    missing_bytes: int = 0


def fetch_hub(
    address: HubAddress,
    *,
    revision: str = "",
    half: bool = False,
    weights: bool = True,
    refresh: bool = False,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> Fetched:
    """The files of a diffusers model, fetched only as far as they are not cached.

    Args:
        address: What is asked for.
        revision: The planned one, which decides over the address's; empty for none.
        half: Prefer weights in half precision, where nothing is planned yet.
        weights: False fetches the small files alone.
        refresh: Ask what a branch stands for now, even where an older state is cached; that
            stays what the branch stands for here until `settle_hub`.
        watch: Told how it goes.

    Raises:
        ModelError: It cannot be had, or holds nothing that can be loaded safely.
    """
    half = revision.endswith(HALF_MARK) if revision else half
    repo, asked = Repo(address.repo), commit_of(revision) or address.asked
    commit = "" if refresh else repo.commit(asked)
    found = _cached(repo, address, commit, half, weights) if commit else None
    if found is not None:
        return found
    meant = replace(address, revision=commit_of(revision) or address.revision)
    with hub_errors(meant), quiet():
        if not commit or refresh:
            commit = resolve(address.repo, asked)
        download(repo, commit, [INDEX])
        sizes = repo.sizes(commit) or listed(address.repo, commit)
        choice = choose_files(str(address), sizes, _index(repo, commit), half)
        wanted = choice.files if weights else choice.small
        bring(repo, commit, sizes, wanted, watch)
        if not refresh:
            repo.remember(asked, commit)
    return _as_it_lies(repo, commit, sizes, choice)


def settle_hub(address: HubAddress, revision: str) -> None:
    """From now on a branch stands for this revision, which is whole."""
    Repo(address.repo).remember(address.asked, commit_of(revision))


def lying_hub(address: HubAddress, revision: str = "", half: bool = False) -> Fetched | None:
    """A model that is whole in the cache; None where it is not. Nothing is asked.

    Raises:
        ModelError: It is there and cannot be loaded safely.
    """
    repo = Repo(address.repo)
    commit = repo.commit(commit_of(revision) or address.asked)
    half = revision.endswith(HALF_MARK) if revision else half
    return _cached(repo, address, commit, half, weights=True) if commit else None


def scorer_snapshot(repo: str) -> Path:
    """Folder of the files of a model that judges pictures, fetched only when not cached.

    Raises:
        ModelError: It cannot be had; the text says what to do.
    """
    hub = library("huggingface_hub")
    wanted = {"allow_patterns": SCORER_FILES, "ignore_patterns": NO_SCORER_FILES}
    try:
        cached = Path(hub.snapshot_download(repo, local_files_only=True, **wanted))
        if any(cached.rglob("*.safetensors")):
            return cached
    except hub.errors.LocalEntryNotFoundError:
        pass  # not cached yet
    except (OSError, ValueError) as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"scorer {repo}: the cache cannot be read: {line}") from error
    with (
        hub_errors(HubAddress(repo), "scorer"),
        quiet(),
        one_at_a_time(Repo(repo).lock, lambda: None),
    ):
        return Path(hub.snapshot_download(repo, **wanted))


def _cached(
    repo: Repo, address: HubAddress, commit: str, half: bool, weights: bool
) -> Fetched | None:
    """What is cached of a commit, if that is enough."""
    if not (repo.snapshot(commit) / INDEX).is_file():
        return None
    listed = repo.sizes(commit)
    lying = repo.lying(commit)
    sizes = listed or lying
    try:
        choice = choose_files(str(address), sizes, _index(repo, commit), half)
    except ModelError:
        if listed:
            raise
        return None  # of an unlisted commit parts of the files may be here
    wanted = choice.files if weights else choice.small
    if not set(wanted) <= set(lying):
        return None
    return _as_it_lies(repo, commit, sizes, choice)


def _as_it_lies(repo: Repo, commit: str, sizes: Mapping[str, int], choice: Choice) -> Fetched:
    folder = repo.snapshot(commit)
    revision = f"{commit}{HALF_MARK}" if choice.half else commit
    total = sum(sizes[file] for file in choice.weights)
    missing = total - present(folder, sizes, choice.weights)
    if choice.half and not missing:
        folder = repo.link_half(commit, choice.files)
    return Fetched(folder, revision, total, missing)


def _index(repo: Repo, commit: str) -> dict[str, Any]:
    try:
        content = json.loads((repo.snapshot(commit) / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {repo.name}: {INDEX} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {repo.name}: {INDEX} holds no JSON object")
    return content
