"""A run prepared from its `job.json` alone: nobody names the manifest or settings again.

What is asked of this call concerns the engine and the store. What decides pixels stands in
the plan, so a key of the plan is refused here rather than passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.engine.call_render import render_again
from sdbatch.engine.job_folder import StoredJob
from sdbatch.engine.model_fetch import Shown
from sdbatch.engine.nightly import run_of
from sdbatch.engine.planned_model import planned_folder, read_job
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.request import layers
from sdbatch.errors import InputError, JobError, ManifestError
from sdbatch.job import Asked, ask, flatten
from sdbatch.manifest.reader import demand_unchanged
from sdbatch.plan.fingerprint import NOT_IN_PLAN
from sdbatch.plan.resuming import STANDS
from sdbatch.plan.settings import Resolved, Setting
from sdbatch.records import Shard
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.store import Store, open_store

Layer = tuple[str, Mapping[str, Any]]
OF_THE_CALL = NOT_IN_PLAN - {"manifest", "output", "model", "vae"}
KEPT = frozenset({"failures.allow", "retries", "checkpoint_every_s"})
"""What was asked for the data holds for every later call; machines may be others by then."""


def ask_again(stored: StoredJob, layers: Iterable[Layer], out: str) -> Asked:
    """What this call says of its engine and limits, over what was asked for the data before.

    Args:
        stored: The plan.
        layers: Of this call; a job file's keys of the plan are not looked at.
        out: The output, for messages.

    Raises:
        JobError: A flag or `--set` names a key of the plan.
    """
    before = {key: value for key, value in stored.body["asked"].items() if key in KEPT}
    merged: list[Layer] = [("job.json", before)]
    for name, layer in layers:
        known = {key: value for key, value in flatten(layer) if _of_the_call(key)}
        foreign = [key for key, _ in flatten(layer) if not _of_the_call(key)]
        if foreign and not name.startswith("job file"):
            raise JobError(
                f"{name}: '{foreign[0]}' is not for this call to choose, the plan of {out} stands: "
                f"only {', '.join(sorted(OF_THE_CALL))} are"
            )
        merged.append((name, known))
    return ask(merged)


def prepare_again(
    out: str | Path,
    options: Mapping[str, Any],
    run: str | None = None,
    report: Shown | None = None,
) -> Prepared:
    """Prepare a call on a dataset whose plan stands.

    Args:
        out: Folder or URL.
        options: `model` says where the planned weights lie now; the others are as in `render`.
        run: Which run of the dataset; None for `main`.
        report: Told how a model is fetched; None is silent.

    Raises:
        InputError: There is no run, or an option cannot be used.
        ModelError: The planned weights are not here.
    """
    said = {name: value for name, value in options.items() if name != "model"}
    call = layers(None, None, said)
    store = open_store(out, ask(call).value("storage"))
    stored = read_job(store, run_of(store, run))
    asked = ask_again(stored, call, store.url)
    return prepare_standing(asked, store, stored, options.get("model") or "", report)


def prepare_standing(
    asked: Asked, store: Store, stored: StoredJob, model: str = "", report: Shown | None = None
) -> Prepared:
    """A run whose plan stands.

    Args:
        model: Where the planned weights lie now; empty looks where the plan found them.
        report: Told how they are fetched; None is silent.

    Raises:
        ModelError: They are not here.
    """
    place = planned_folder(
        stored.spec.render, model, asked.value("storage"), asked.value("models_dir"), report
    )
    render = replace(stored.spec.render, model_path=place)
    render = render_again(render, asked)
    sizes = (name.partition("x") for name in render.lanes)
    return Prepared(
        asked=asked,
        store=store,
        run=stored.spec.run,
        model=find_model(render.model_path),
        resolved=Resolved(
            {key: Setting(value, STANDS) for key, value in stored.resolved.items()}, frozenset()
        ),
        render=render,
        sizes=tuple((int(width), int(height)) for width, _, height in sizes),
        shards=stored.shards,
        rows=stored.rows,
        images=stored.images,
        stored=stored,
        job=None,
        notes=(),
        expected=None,
    )


def demand_manifest(prepared: Prepared, shards: Iterable[Shard]) -> None:
    """Find out before anything is begun that workers will find these shards' rows.

    Raises:
        InputError: A manifest file is gone, or not the one the plan was made from.
        StorageError: It cannot be reached.
    """
    if prepared.stored is None:
        return
    manifest = prepared.stored.spec.manifest
    windows = {(shard.first_row, shard.end_row) for shard in shards}
    try:
        demand_unchanged(manifest, windows, prepared.storage)
    except ManifestError as error:
        raise InputError(
            f"{error}: the plan reads it there, put it back or link it to that place"
        ) from error


def _of_the_call(key: str) -> bool:
    return key in OF_THE_CALL or key.startswith("storage.")
