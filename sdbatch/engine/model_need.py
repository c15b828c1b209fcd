"""What of its model a run needs: the planned revision once there is a plan, weights later."""

from __future__ import annotations

from sdbatch.engine.job_folder import StoredJob
from sdbatch.job import Asked
from sdbatch.render.families.known_models import SHORT
from sdbatch.render.weights.fetched_model import Need, is_fetched

HALF = ("float16", "bfloat16")


def need_of(asked: Asked, stored: StoredJob | None) -> Need:
    """What `prepare` reads of a model: configurations of the planned revision.

    A plan that stands keeps its commit, wherever the branch has moved since.

    Args:
        asked: The checked job.
        stored: The plan that stands in the output; None when there is none.
    """
    said = asked.value("model")
    name = SHORT[said].repo if said in SHORT else said
    revision = ""
    if stored is not None:
        planned = str(stored.resolved["model.revision"])
        same = stored.resolved["model"] == name or "model" not in asked.sources
        revision = planned if same and is_fetched(planned) else ""
    half = asked.value("render.dtype") in HALF
    return Need(
        revision,
        half=half,
        weights=False,
        storage=asked.value("storage"),
        models_dir=asked.value("models_dir"),
    )
