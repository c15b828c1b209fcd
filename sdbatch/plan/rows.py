"""From manifest rows to pictures: every setting of every picture resolved.

Precedence is row, then defaults, which already hold flags, job file and model in their own
order. The same few lines run in every worker, so a row becomes the same pictures wherever
its shard is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.content import content_digests
from sdbatch.manifest.faults import NO_TRUE_CFG
from sdbatch.manifest.later import later_reason, later_rows
from sdbatch.manifest.micro_conditioning import NOT_TOLD, micro_fault, one_spelling
from sdbatch.manifest.prompt_syntax import PLAIN, SYNTAXES, syntax_fault
from sdbatch.manifest.scheduler_names import choose_scheduler
from sdbatch.manifest.schema import (
    MAX_SEED,
    TASK,
    canonical_table,
    json_object_fault,
)
from sdbatch.manifest.shape import sizes_of
from sdbatch.plan.fingerprint import row_hash
from sdbatch.plan.seeds import BY_CONTENT, BY_ID, BY_POSITION, derived_seed, seed_of
from sdbatch.records import RenderRow, RowDefaults, Shard, size_name
from sdbatch.results import RowFailure


@dataclass(frozen=True, slots=True)
class Resolving:
    """What resolving a row needs besides the row.

    Attributes:
        manifest: Its name, for messages.
        defaults: Settings of rows that do not say otherwise.
        seed: Job seed.
        hash_rows: Rows without id are known by content (False: by position).
        occurrences: Row position to how many equal rows precede it; absent means 0.
        model_revision: Revision of the model that draws.
    """

    manifest: str
    defaults: RowDefaults
    seed: int
    hash_rows: bool
    occurrences: Mapping[int, int]
    model_revision: str


def rows_of_shard(
    window: pa.Table, shard: Shard, defaults: RowDefaults
) -> tuple[pa.Table, NDArray[np.int64]]:
    """A shard's rows out of its window, with their positions in the manifest.

    Args:
        window: Manifest rows `[shard.first_row, shard.end_row)`, all columns.
        shard: Says which of them are meant.
        defaults: Sizes of rows that state none.
    """
    places = np.arange(window.num_rows, dtype=np.int64)
    if shard.group:
        places = places[group_of(window, defaults) == shard.group]
    places = places[shard.skip : shard.skip + shard.num_rows]
    return window.take(pa.array(places)), places + shard.first_row


def group_of(table: pa.Table, defaults: RowDefaults) -> NDArray[np.str_]:
    """The picture size of every row as `WxH`."""
    width, height = sizes_of(table, defaults)
    pairs, index = np.unique(np.stack((width, height), axis=1), axis=0, return_inverse=True)
    names = np.array([size_name(int(wide), int(high)) for wide, high in pairs], dtype=np.str_)
    return names[index.reshape(-1)]


def resolve_rows(
    table: pa.Table, row_indices: Sequence[int] | NDArray[np.int64], how: Resolving
) -> list[RenderRow]:
    """One `RenderRow` per picture, in row order, then picture order.

    Args:
        table: Manifest rows; columns that are not canonical are ignored.
        row_indices: Position of each of them in the manifest.
        how: Defaults and identities.

    Raises:
        ManifestError: A row has no prompt, an unreadable `scheduler_config` or a seed that
            is none, which only an unchecked manifest can hold.
    """
    pictures: list[RenderRow] = []
    for picture, fault in _resolve(table, row_indices, how):
        if fault is not None:
            raise fault
        pictures.append(picture)
    return pictures


def resolve_or_fail(
    table: pa.Table, row_indices: Sequence[int] | NDArray[np.int64], how: Resolving
) -> tuple[list[RenderRow], list[RowFailure]]:
    """As `resolve_rows`, with pictures of unreadable rows as failures instead of an error.

    One such row among a million must not keep a run from ever being finished.
    """
    pictures: list[RenderRow] = []
    failures: list[RowFailure] = []
    for picture, fault in _resolve(table, row_indices, how):
        if fault is None:
            pictures.append(picture)
        else:
            failures.append(RowFailure(picture, type(fault).__name__, str(fault)))
    return pictures, failures


def _resolve(
    table: pa.Table, row_indices: Sequence[int] | NDArray[np.int64], how: Resolving
) -> Iterator[tuple[RenderRow, ManifestError | None]]:
    """Every picture, with what makes its row unreadable."""
    positions = [int(position) for position in row_indices]
    stated = canonical_table(table).to_pylist()
    identities = _identities(table, stated, positions, how)
    later = {place: (name, value) for place, name, value in later_rows(table)}
    for place, (row, position, (kind, row_id)) in enumerate(
        zip(stated, positions, identities, strict=True)
    ):
        fault = _fault(row, position, how) or _later_fault(later.get(place), position, how)
        request = resolve_request(row, how)
        count = _or(row, "num_images_per_prompt", how.defaults.num_images_per_prompt)
        occurrence = how.occurrences.get(position, 0)
        for image_index in range(count):
            seed = row.get("seed")
            if seed is None:
                seed = derived_seed(how.seed, kind, row_id, occurrence, image_index)
            else:
                seed = seed_of(seed, image_index)
            late = fault or _seed_fault(seed, position, how)
            # A failed row is stored too, and its seed with it.
            kept = min(seed, MAX_SEED)
            yield _picture(request, position, image_index, row_id, kept, how), late


def _identities(
    table: pa.Table, stated: list[dict[str, Any]], positions: list[int], how: Resolving
) -> Iterator[tuple[str, str]]:
    if "id" in table.column_names:
        return ((BY_ID, row["id"] or "") for row in stated)
    if how.hash_rows:
        return ((BY_CONTENT, digest.hex()) for digest in content_digests(table))
    return ((BY_POSITION, str(position)) for position in positions)


def _fault(row: Mapping[str, Any], position: int, how: Resolving) -> ManifestError | None:
    """Why a row can be no request, whatever the model."""
    if row["prompt"] is None:
        reason = "is null, every row needs a prompt"
        return ManifestError(how.manifest, position, "prompt", "", reason)
    syntax = row.get("prompt_syntax")
    if syntax and syntax not in SYNTAXES:
        return ManifestError(how.manifest, position, "prompt_syntax", syntax, syntax_fault())
    true_cfg = row.get("true_cfg_scale")
    if true_cfg not in (None, 1.0) and how.defaults.true_cfg_scale is None:
        return ManifestError(how.manifest, position, "true_cfg_scale", f"{true_cfg:g}", NO_TRUE_CFG)
    if micro := row.get("micro_conditioning"):
        reason = NOT_TOLD if how.defaults.micro_conditioning is None else micro_fault(micro)
        if reason:
            return ManifestError(how.manifest, position, "micro_conditioning", micro, reason)
    config = row.get("scheduler_config") or how.defaults.scheduler_config
    reason = json_object_fault(config) if config else ""
    if reason:
        return ManifestError(how.manifest, position, "scheduler_config", config, reason)
    return None


def _later_fault(
    asked: tuple[str, str] | None, position: int, how: Resolving
) -> ManifestError | None:
    if asked is None:
        return None
    name, value = asked
    return ManifestError(how.manifest, position, name, value[:60], later_reason(name))


def _seed_fault(seed: int, position: int, how: Resolving) -> ManifestError | None:
    if 0 <= seed <= MAX_SEED:
        return None
    reason = f"must be a whole number from 0 to {MAX_SEED}"
    return ManifestError(how.manifest, position, "seed", str(seed), reason)


def resolve_request(row: Mapping[str, Any], how: Resolving) -> dict[str, Any]:
    """What the model is asked for this row, but the seed; unreadable options as they stand."""
    defaults = how.defaults
    drawn_with = choose_scheduler(
        row.get("scheduler") or defaults.scheduler,
        row.get("schedule_type") or "",
        row.get("scheduler_config") or defaults.scheduler_config,
    )
    return {
        "prompt": row["prompt"] or "",
        "negative_prompt": _or(row, "negative_prompt", defaults.negative_prompt),
        "width": _or(row, "width", defaults.width),
        "height": _or(row, "height", defaults.height),
        "num_inference_steps": _or(row, "num_inference_steps", defaults.num_inference_steps),
        # Rounded as the dataset stores it, so that a stored value redraws its picture.
        "guidance_scale": float(np.float32(_or(row, "guidance_scale", defaults.guidance_scale))),
        "scheduler": drawn_with.scheduler,
        "scheduler_config": drawn_with.config,
        "prompt_syntax": row.get("prompt_syntax") or defaults.prompt_syntax,
        **_true_cfg(row, defaults),
        **_micro(row, defaults),
    }


def _true_cfg(row: Mapping[str, Any], defaults: RowDefaults) -> dict[str, float]:
    """Guidance beside the one that a model is told; nothing for models that are told none."""
    if defaults.true_cfg_scale is None:
        return {}
    return {
        "true_cfg_scale": float(np.float32(_or(row, "true_cfg_scale", defaults.true_cfg_scale)))
    }


def _micro(row: Mapping[str, Any], defaults: RowDefaults) -> dict[str, str]:
    """What the model is told of sizes; nothing where that is nothing of note."""
    said = one_spelling(row.get("micro_conditioning") or defaults.micro_conditioning or "")
    return {"micro_conditioning": said} if said else {}


def _picture(
    request: dict[str, Any], position: int, image_index: int, row_id: str, seed: int, how: Resolving
) -> RenderRow:
    row = RenderRow(
        row_index=position,
        image_index=image_index,
        row_id=row_id,
        prompt=request["prompt"],
        negative_prompt=request["negative_prompt"],
        seed=seed,
        width_px=request["width"],
        height_px=request["height"],
        num_inference_steps=request["num_inference_steps"],
        guidance_scale=request["guidance_scale"],
        scheduler=request["scheduler"],
        scheduler_config=request["scheduler_config"],
        prompt_syntax=request["prompt_syntax"],
        true_cfg_scale=request.get("true_cfg_scale"),
        micro_conditioning=request.get("micro_conditioning", ""),
    )
    return replace(row, row_hash=hash_of(row, how.model_revision))


def hash_of(row: RenderRow, model_revision: str) -> str:
    """The `row_hash` that a picture's request must have."""
    request = {
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "width": row.width_px,
        "height": row.height_px,
        "num_inference_steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "scheduler": row.scheduler,
        "scheduler_config": row.scheduler_config,
        "prompt_syntax": row.prompt_syntax,
    }
    if row.true_cfg_scale is not None:
        request["true_cfg_scale"] = row.true_cfg_scale
    if row.micro_conditioning:
        request["micro_conditioning"] = row.micro_conditioning
    return row_hash(hashed_request(request, row.seed), model_revision)


def hashed_request(request: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What of a resolved request enters its `row_hash`, seed and task included."""
    hashed = {**request, "seed": seed, "task": TASK}
    if request["prompt_syntax"] == PLAIN:  # called what they were before there were others
        del hashed["prompt_syntax"]
    return hashed


def _or(row: Mapping[str, Any], name: str, default: Any) -> Any:
    value = row.get(name)
    return default if value is None else value
