"""A model that has to be fetched before it can be read: from the Hub, or from a bucket.

How much is needed depends on who asks: a plan wants configurations, a worker the weights of
the plan, and `Need` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.records import ModelFacts
from sdbatch.remote import scheme_of
from sdbatch.render.weights.fetching import Watch
from sdbatch.render.weights.folder_facts import folder_facts
from sdbatch.render.weights.hub import Fetched, fetch_hub, lying_hub, settle_hub
from sdbatch.render.weights.hub_address import commit_of, hub_address
from sdbatch.render.weights.hub_cache import Repo
from sdbatch.render.weights.hub_file import fetch_hub_file, lying_hub_file
from sdbatch.render.weights.remote_model import MARK, fetch_remote, lying_remote, newest_remote

LOCAL_SCHEMES = ("", "file", "local")


@dataclass(frozen=True, slots=True)
class Need:
    """What of a model is needed.

    Attributes:
        revision: The planned one; empty for whatever its name stands for.
        half: Weights in half precision are preferred, where nothing is planned yet.
        weights: False for configurations alone.
        refresh: Ask what a branch stands for now, even where an older state is cached.
        storage: fsspec options of a bucket it lies in.
        watch: Told how a fetch goes.
        models_dir: Where bare names are looked up before SDBATCH_MODELS, see `model_dirs.py`.
    """

    revision: str = ""
    half: bool = False
    weights: bool = True
    refresh: bool = False
    storage: Mapping[str, Any] = field(default_factory=dict)
    watch: Watch = Watch()  # noqa: RUF009  # frozen
    models_dir: str = ""


def fetched_facts(name: str, need: Need) -> ModelFacts | None:
    """Facts of a model of the Hub or of a bucket; None where the name is of neither.

    Raises:
        ModelError: It cannot be had, or not be drawn with.
    """
    fetched = fetch(name, replace(need, weights=False))
    if fetched is None:
        return None
    address = hub_address(name)
    known_as = address.repo if address else name  # what suits a model suits its revisions
    facts = folder_facts(known_as, fetched.folder, fetched.revision, fetched.weights_bytes)
    if need.weights and fetched.missing_bytes:  # only now: it can be drawn with
        whole = fetch(name, replace(need, revision=fetched.revision, refresh=False)) or fetched
        facts, fetched = replace(facts, path=str(whole.folder)), whole
    if need.weights and need.refresh and address:
        settle_hub(address, fetched.revision)
    return replace(facts, name=name, missing_bytes=fetched.missing_bytes)


def fetched_file(name: str, need: Need) -> tuple[str, Path] | None:
    """A checkpoint in one file of the Hub: its name with its commit, and where it lies.

    Raises:
        ModelError: It cannot be had, or is not here and only a plan is wanted.
    """
    address = hub_address(name)
    if address is None or not address.file:
        return None
    if not need.weights and lying_hub_file(address) is None:
        raise ModelError(
            f"model {name}: what it is stands in the file, which is not here yet: "
            f"sdbatch models fetch {name}"
        )
    path = fetch_hub_file(address, refresh=need.refresh, watch=need.watch)
    commit = path.relative_to(Repo(address.repo).folder / "snapshots").parts[0]
    return str(replace(address, revision=commit)), path


def lying(name: str, need: Need) -> Fetched | None:
    """A model that is whole on this machine, found without asking anybody; else None.

    Raises:
        ModelError: It is here and cannot be loaded safely.
    """
    if scheme_of(name) not in LOCAL_SCHEMES:
        return lying_remote(name, need.revision)
    address = hub_address(name)
    if address is None or address.file:
        return None
    return lying_hub(address, need.revision, need.half)


def newest_lying(name: str) -> Fetched | None:
    """Of a bucket the revision that was fetched last; None where none lies here."""
    if scheme_of(name) in LOCAL_SCHEMES:
        return None
    return newest_remote(name)


def is_fetched(revision: str) -> bool:
    """Whether a revision is one of a model that is fetched, not the hash of a local one."""
    return bool(commit_of(revision)) or revision.startswith(MARK)


def fetch(name: str, need: Need) -> Fetched | None:
    """As much of a model as is needed, as it lies here; None where the name is of neither kind.

    Raises:
        ModelError: It cannot be had.
    """
    if scheme_of(name) not in LOCAL_SCHEMES:
        return fetch_remote(
            name,
            need.storage,
            revision=need.revision,
            half=need.half,
            weights=need.weights,
            watch=need.watch,
        )
    address = hub_address(name)
    if address is None or address.file:
        return None
    return fetch_hub(
        address,
        revision=need.revision,
        half=need.half,
        weights=need.weights,
        refresh=need.refresh,
        watch=need.watch,
    )
