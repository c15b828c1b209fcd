"""The very model that drew a dataset, loaded again to draw one of its pictures.

Everything comes from the stored plan: number type, lanes, threads, revision. Where the
weights lie is a question of this machine, so a caller may name another place for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.engine import job_folder
from sdbatch.engine.job_folder import StoredJob
from sdbatch.engine.model_fetch import Shown, bring
from sdbatch.errors import InputError, ModelError, ModelUnreachableError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import FAKE_PREFIX
from sdbatch.render.loading import load_renderer
from sdbatch.render.protocol import Renderer
from sdbatch.render.weights.fetched_model import Need, is_fetched, lying
from sdbatch.render.weights.hub_address import commit_of, hub_address
from sdbatch.render.weights.hub_cache import is_cached
from sdbatch.render.weights.local_model import local_model
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.store import Store


def read_job(store: Store, run: str) -> StoredJob:
    """The plan of a dataset.

    Raises:
        InputError: There is none.
        DamagedError: It cannot be read.
    """
    job = job_folder.read(store, run)
    if job is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")
    return job


def load_planned(
    render: RenderSpec,
    model: str = "",
    models_dir: str = "",
    storage: Mapping[str, Any] | None = None,
) -> Renderer:
    """Load the planned model with the planned settings.

    Args:
        render: From the stored plan.
        model: Name or place of the same weights, where they no longer lie where they did.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        storage: fsspec options of a bucket that they lie in.

    Raises:
        ModelError: It is not on this machine, or another revision of it is.
    """
    folder = planned_folder(render, model, storage, models_dir)
    # This machine may have less memory, or more, than the one that drew it: pixels are equal.
    # A CPU there is everywhere; of GPUs this machine may have none, or one of another maker.
    device = render.device if render.device == "cpu" else "auto"
    return load_renderer(replace(render, model_path=folder, memory="auto", device=device), ())


def planned_folder(
    render: RenderSpec,
    model: str = "",
    storage: Mapping[str, Any] | None = None,
    models_dir: str = "",
    report: Shown | None = None,
) -> str:
    """Where the planned weights lie on this machine; what the Hub or a bucket has is fetched.

    Weights that are here are found without asking anybody.

    Args:
        render: From the stored plan.
        model: Name or folder of the same weights, where they no longer lie where they did.
        storage: fsspec options of a bucket that they lie in.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        report: Told how a fetch goes; None is silent.

    Raises:
        ModelError: They are not here, or another revision of them is.
        ModelUnreachableError: They could not be fetched now.
    """
    wanted, was_there = render.model_revision, Path(render.model_path)
    fetched = is_fetched(wanted)
    need = Need(revision=wanted if fetched else "", storage=storage or {}, models_dir=models_dir)
    if fetched and not model:
        here = lying(render.model, need)
        if here is not None:
            return str(here.folder)
        if was_there.is_dir() and was_there.name == wanted and not is_cached(was_there):
            return str(was_there)
    place = model or (str(was_there) if was_there.exists() and not fetched else render.model)
    try:
        if place == render.model and not fetched:
            _demand_local(render, models_dir)
        facts = bring(place, need, report) if report else find_model(place, need)
    except ModelUnreachableError:
        raise
    except ModelError as error:
        raise ModelError(f"{error}; {_way_on(render)}") from error
    found = Path(facts.path)
    if facts.revision == wanted:
        return facts.path
    if fetched and (found.parent / wanted).is_dir():  # a folder of the Hub's cache, by its path
        return str(found.parent / wanted)
    shown = found.name if fetched else facts.revision
    raise ModelError(
        f"model {place}: is revision {shown[:12]}, the plan was made with {wanted[:12]}: "
        f"{_way_on(render)}"
    )


def _demand_local(render: RenderSpec, models_dir: str) -> None:
    """Find out that a local model is not here before the Hub is asked for one of its name.

    Raises:
        ModelError: It is not.
    """
    address = hub_address(render.model)
    there = render.model_path.startswith(FAKE_PREFIX) or (address is not None and address.file)
    if not there and local_model(render.model, models_dir) is None:
        raise ModelError(
            f"model {render.model}: lay in {render.model_path} when the plan was made and is not "
            "on this machine: put it where every node sees it, or set SDBATCH_MODELS on each"
        )


def _way_on(render: RenderSpec) -> str:
    """How to get the planned weights."""
    commit = commit_of(render.model_revision)
    if commit:
        return f"get it with `sdbatch models fetch {render.model} --revision {commit}`"
    return "name the place of the old weights with --model"
