"""Models before they are needed: fetched, listed, found; what `sdbatch models` calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sdbatch.engine.model_fetch import Shown, bring, fetch_notes
from sdbatch.engine.model_need import HALF
from sdbatch.errors import ModelError
from sdbatch.records import ModelFacts
from sdbatch.render.families.known_models import SHORT
from sdbatch.render.weights.fetched_model import Need, lying, newest_lying
from sdbatch.render.weights.fetching import as_bytes
from sdbatch.render.weights.hub_address import COMMIT, hub_address
from sdbatch.render.weights.hub_file import lying_hub_file
from sdbatch.render.weights.local_model import local_model
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.weights.models_here import ModelHere, models_here


class _Silent:
    """Told what nobody asked to be told."""

    def note(self, line: str) -> None:
        """Drop it."""


def fetch_model(
    name: str,
    *,
    revision: str = "",
    dtype: str = "auto",
    models_dir: str = "",
    report: Shown | None = None,
) -> ModelFacts:
    """Bring a model to this machine as its branch has it now; what is here is not fetched again.

    Args:
        name: As `--model` takes it.
        revision: Branch, tag or commit of a model on the Hub.
        dtype: `float16` or `bfloat16` prefer weights in half precision, as a run with it does.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        report: Told how it goes; None is silent.

    Raises:
        ModelError: It cannot be had, or not be drawn with.
        ModelUnreachableError: The network, a store or the disk failed; worth another try.
    """
    talk, asked = report or _Silent(), _with_revision(name, revision)
    refresh = not COMMIT.fullmatch(asked.rpartition("@")[2])
    need = Need(half=dtype in HALF, models_dir=models_dir, refresh=refresh)
    address = hub_address(SHORT[asked].repo if asked in SHORT else asked)
    if address is not None and address.file:
        return bring(asked, need, talk)
    facts = find_model(asked, replace(need, weights=False))
    for line in fetch_notes(facts):
        talk.note(line)
    if not facts.missing_bytes:
        talk.note(f"model {facts.name}: {as_bytes(facts.size_bytes)}, here already")
    return bring(asked, need, talk)


def list_models(*, models_dir: str = "") -> list[ModelHere]:
    """Every model of this machine: fetched, in folders of models, shipped with the package.

    Args:
        models_dir: A folder of models beside that of SDBATCH_MODELS.

    Raises:
        ModelError: It is no folder.
    """
    return list(models_here(models_dir))


def where_model(name: str, *, revision: str = "", models_dir: str = "") -> Path:
    """Where a model lies on this machine; nobody is asked.

    Args:
        name: As `--model` takes it.
        revision: Branch, tag or commit of a model on the Hub.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.

    Raises:
        ModelError: It is not here, or not whole.
    """
    asked = _with_revision(name, revision)
    place = local_model(asked, models_dir)
    if place is not None:
        return place
    if asked in SHORT:
        known = SHORT[asked]
        asked = f"{known.repo}/{known.file}" if known.file else known.repo
    address = hub_address(asked)
    if address is not None and address.file:
        place = lying_hub_file(address)
    else:
        found = lying(asked, Need()) or lying(asked, Need(half=True)) or newest_lying(asked)
        place = found.folder if found is not None else None
    if place is None:
        raise ModelError(f"model {asked}: not whole on this machine: sdbatch models fetch {asked}")
    return place


def _with_revision(name: str, revision: str) -> str:
    """The name that says the revision too.

    Raises:
        ModelError: It says another one already, or can have none.
    """
    if not revision:
        return name
    full = SHORT[name].repo if name in SHORT else name
    if "@" in full or hub_address(full) is None:
        raise ModelError(f"--revision {revision}: {name} is no org/name on the Hub without one")
    return f"{full}@{revision}"
