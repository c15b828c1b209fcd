"""One file of weights on the Hub: `org/name/path/file.safetensors`, fetched once."""

from __future__ import annotations

from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.render.weights.fetching import Watch
from sdbatch.render.weights.hub_address import HubAddress
from sdbatch.render.weights.hub_cache import Repo
from sdbatch.render.weights.hub_errors import hub_errors
from sdbatch.render.weights.hub_transfer import bring, listed, quiet, resolve


def lying_hub_file(address: HubAddress) -> Path | None:
    """Where the file lies in the cache; None where it does not. Nothing is asked."""
    repo = Repo(address.repo)
    commit = repo.commit(address.asked)
    path = repo.snapshot(commit) / address.file if commit else None
    return path if path is not None and path.is_file() else None


def fetch_hub_file(
    address: HubAddress,
    *,
    refresh: bool = False,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> Path:
    """The file, fetched only if it is not cached.

    Args:
        address: Its `file` names it.
        refresh: Ask what its branch has now, even where an older state is cached.
        watch: Told how it goes.

    Raises:
        ModelError: It cannot be had.
    """
    lies = None if refresh else lying_hub_file(address)
    if lies is not None:
        return lies
    repo = Repo(address.repo)
    with hub_errors(address), quiet():
        commit = resolve(address.repo, address.asked)
        sizes = repo.sizes(commit) or listed(address.repo, commit)
        if address.file not in sizes:
            others = [file for file in sizes if file.endswith(".safetensors")]
            has = f"it has {', '.join(others[:5])}" if others else "nor any other weights"
            raise ModelError(f"model {address}: has no {address.file}: {has}")
        bring(repo, commit, sizes, [address.file], watch)
        repo.remember(address.asked, commit)
    return repo.snapshot(commit) / address.file
