"""The very model that drew a dataset, loaded again to draw one of its pictures.

Everything comes from the stored plan: number type, lanes, threads, revision. Where the
weights lie is a question of this machine, so a caller may name another place for them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sdbatch.engine import job_folder
from sdbatch.engine.job_folder import StoredJob
from sdbatch.errors import InputError, ModelError
from sdbatch.records import RenderSpec
from sdbatch.render.loading import SHA256_DIGITS, load_renderer
from sdbatch.render.model_facts import find_model
from sdbatch.render.protocol import Renderer
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


def load_planned(render: RenderSpec, model: str = "") -> Renderer:
    """Load the planned model with the planned settings.

    Args:
        render: From the stored plan.
        model: Name or folder of the same weights, where they no longer lie where they did.

    Raises:
        ModelError: It is not on this machine, or another revision of it is.
    """
    folder = planned_folder(render, model)
    return load_renderer(replace(render, model_path=folder), ())


def planned_folder(render: RenderSpec, model: str = "") -> str:
    """Where the planned weights lie on this machine.

    Raises:
        ModelError: They are not here, or another revision of them is.
    """
    wanted = render.model_revision
    was_there = Path(render.model_path)
    from_hub = len(wanted) != SHA256_DIGITS
    if not model and from_hub and was_there.is_dir() and was_there.name == wanted:
        return str(was_there)
    place = model or (str(was_there) if was_there.is_dir() else render.model)
    try:
        facts = find_model(place)
    except ModelError as error:
        raise ModelError(f"{error}; {_way_on(render)}") from error
    found = Path(facts.path)
    if not from_hub and facts.revision == wanted:
        return facts.path
    if from_hub and (found.parent / wanted).is_dir():  # the Hub's cache: a folder per commit
        return str(found.parent / wanted)
    shown = found.name if from_hub else facts.revision
    raise ModelError(
        f"model {place}: is revision {shown[:12]}, the plan was made with {wanted[:12]}: "
        f"{_way_on(render)}"
    )


def _way_on(render: RenderSpec) -> str:
    """How to get the planned weights."""
    if len(render.model_revision) != SHA256_DIGITS:
        return f"get it with `hf download {render.model} --revision {render.model_revision}`"
    return "name the folder of the old weights with --model"
