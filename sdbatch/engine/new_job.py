"""The parts of a decided plan put together, as `job.json` will have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdbatch.engine.job_folder import NewJob
from sdbatch.job import Asked
from sdbatch.manifest.bad_rows import BadRows
from sdbatch.manifest.checks import CheckReport
from sdbatch.manifest.reader import Manifest
from sdbatch.manifest.shape import RowShape
from sdbatch.model_specs import RenderSpec
from sdbatch.plan.selection import Selection
from sdbatch.plan.settings import Resolved
from sdbatch.records import ModelFacts, Shard
from sdbatch.remote import is_url


def new_job(
    asked: Asked,
    model: ModelFacts,
    manifest: Manifest,
    frozen: Path | None,
    resolved: Resolved,
    render: RenderSpec,
    shards: Sequence[Shard],
    schema: pa.Schema,
    shape: RowShape,
    checked: CheckReport | None,
    bad: BadRows | None,
    notes: Sequence[str],
    selection: Selection | None,
) -> NewJob:
    """A plan that waits for its first worker; `checked` and `bad` as `check_for_run` has them."""
    repeats = pa.table(
        {
            "row_index": checked.repeat_rows if checked else pa.array([], pa.int64()),
            "occurrence": checked.repeat_numbers if checked else pa.array([], pa.int64()),
        }
    )
    return NewJob(
        asked=said_of(asked),
        resolved=resolved,
        manifest=manifest.ref,
        frozen=frozen,
        repeats=repeats,
        bad=bad,
        hash_rows=resolved.value("manifest.hash_rows"),
        render=render,
        pipeline_class=model.pipeline_class,
        render_env="",
        shards=shards,
        schema=schema,
        rows=shape.num_rows,
        images=shape.num_images,
        notes=tuple(notes),
        selection=selection,
    )


def said_of(asked: Asked) -> dict[str, Any]:
    """What the user said; a local manifest by the place that it has from every folder."""
    said = {key: asked.value(key) for key in asked.sources if key != "storage"}
    manifest = said.get("manifest")
    return {**said, "manifest": absolute(manifest)} if manifest else said


def absolute(url: str) -> str:
    """A local path made absolute, since workers may stand elsewhere; URLs as they are."""
    return url if is_url(url) else os.path.abspath(os.path.expanduser(url))
