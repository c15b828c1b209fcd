"""What a finished picture says of itself: values for every column but the manifest's own.

Plain dictionaries, because they rest in the spool before they become Arrow columns.
A picture that failed says the same of itself, with the reason in place of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sdbatch.dataset.images import EncodedImage
from sdbatch.model_specs import RenderEnv
from sdbatch.records import RenderRow, RowStatus, RunSpec, image_key
from sdbatch.results import RenderedImage, RowFailure

TRACEBACK_CHARS = 16_000
"""Longest traceback kept; its end says most."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What all pictures of a shard attempt share.

    Attributes:
        run: `main`, or the name of an appended run.
        shard_id: Its shard.
        attempts: Which attempt at the shard this is, from 1.
        sdbatch_version: The version that draws.
        task: What is drawn from what.
    """

    run: str
    model: str
    model_revision: str
    env: RenderEnv
    sdbatch_version: str
    shard_id: int = 0
    attempts: int = 1
    task: str = "text2image"

    @classmethod
    def of(cls, spec: RunSpec, env: RenderEnv) -> ImageFacts:
        """The facts of a run; shard and attempt are filled in for each lease."""
        return cls(
            run=spec.run,
            model=spec.render.model,
            model_revision=spec.render.model_revision,
            env=env,
            sdbatch_version=installed_version(),
        )


def image_columns(
    image: RenderedImage,
    encoded: EncodedImage,
    facts: ImageFacts,
    created_at: datetime | None = None,
) -> dict[str, Any]:
    """Column values of a picture that was drawn.

    Args:
        image: As it came from the renderer.
        encoded: The same picture as it is stored.
        facts: What it shares with the rest of its shard.
        created_at: With a time zone; None means now.
    """
    return {
        **_common(image.row, facts, created_at),
        "status": RowStatus.SUCCESS.value,
        "format": encoded.format,
        "image_width": encoded.width_px,
        "image_height": encoded.height_px,
        "image_bytes": len(encoded.data),
        "sha256": encoded.sha256,
        "pixel_sha256": encoded.pixel_sha256,
        **encoded.quality.columns(),
        **image.scores,
        "prompt_truncated": image.prompt_truncated,
        "latency_ms": image.latency_ms,
        "batch_size": image.num_lanes,
    }


def failure_columns(
    failure: RowFailure, facts: ImageFacts, created_at: datetime | None = None
) -> dict[str, Any]:
    """Column values of a picture that cannot be drawn.

    Args:
        failure: As it came from the renderer.
        facts: What it shares with the rest of its shard.
        created_at: With a time zone; None means now.
    """
    return {
        **_common(failure.row, facts, created_at),
        "status": RowStatus.FAILED.value,
        "error_type": _storable(failure.error_type),
        "error_message": _storable(failure.error_message),
        "traceback": _storable(failure.traceback[-TRACEBACK_CHARS:]),
    }


def installed_version() -> str:
    """The version of this package; `source` when it runs without being installed."""
    try:
        return version("sdbatch")
    except PackageNotFoundError:
        return "source"


def render_env_text(env: RenderEnv) -> str:
    """One line that two pictures share exactly when they were drawn on equal terms."""
    versions = f"torch {env.torch_version}, diffusers {env.diffusers_version}"
    return f"{env.device} ({env.device_name}), {env.dtype}, {versions}, {env.kernels}"


def _common(row: RenderRow, facts: ImageFacts, created_at: datetime | None) -> dict[str, Any]:
    return {
        "key": image_key(row.row_index, row.image_index, facts.run),
        "row_id": row.row_id,
        "row_index": row.row_index,
        "image_index": row.image_index,
        "row_hash": row.row_hash,
        **_request(row),
        **_run(facts),
        "created_at": _microseconds(created_at or datetime.now(UTC)),
    }


def _request(row: RenderRow) -> Mapping[str, Any]:
    return {
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "seed": row.seed,
        "num_inference_steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "width": row.width_px,
        "height": row.height_px,
        "scheduler": row.scheduler,
        "scheduler_config": row.scheduler_config,
        "prompt_syntax": row.prompt_syntax,
        **({} if row.true_cfg_scale is None else {"true_cfg_scale": row.true_cfg_scale}),
        **({"micro_conditioning": row.micro_conditioning} if row.micro_conditioning else {}),
    }


def _run(facts: ImageFacts) -> Mapping[str, Any]:
    return {
        "shard_id": facts.shard_id,
        "run_id": facts.run,
        "task": facts.task,
        "model": facts.model,
        "model_revision": facts.model_revision,
        "dtype": facts.env.dtype,
        "pipeline_class": facts.env.pipeline_class,
        "attempts": facts.attempts,
        "gpu_name": facts.env.device_name,
        "render_env": render_env_text(facts.env),
        "sdbatch_version": facts.sdbatch_version,
        "diffusers_version": facts.env.diffusers_version,
        "torch_version": facts.env.torch_version,
    }


def _microseconds(moment: datetime) -> int:
    # Arrow takes integers for timestamps, and integers survive the spool's JSON.
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _storable(text: str) -> str:
    # Messages may quote broken file names; Arrow takes valid UTF-8 only.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
