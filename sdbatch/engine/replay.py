"""Draws pictures of a dataset again, from the dataset alone, and compares them.

The same row must give the same pixels whatever its neighbours, shard and worker: here
anyone can check that for any key, or learn how far another machine's pixels are off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdbatch.dataset.columns import installed_version, render_env_text
from sdbatch.dataset.compare import comparison, difference
from sdbatch.dataset.figures import save_png
from sdbatch.dataset.images import decode, encode, fitted, pixel_sha256
from sdbatch.engine.planned_model import load_planned, read_job
from sdbatch.engine.replay_report import FactChange, Replayed, ReplayReport
from sdbatch.engine.stored_rows import Key, StoredPicture, find_pictures, run_of_keys
from sdbatch.model_specs import RenderSpec
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.rows import hash_of
from sdbatch.records import ImageId, RowStatus, RunSpec
from sdbatch.render.protocol import Renderer
from sdbatch.results import RenderedImage, RowFailure
from sdbatch.storage.store import Store


def replay(
    store: Store,
    keys: Sequence[Key],
    *,
    model: str = "",
    models_dir: str = "",
    out: Path | None = None,
    run: str | None = None,
) -> ReplayReport:
    """Draw named pictures again and compare them with the stored ones.

    Args:
        store: The dataset.
        keys: See `stored_rows.Key`.
        model: Where the weights lie, if not where the plan found them.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.
        out: Local folder for pictures to look at; None writes none.
        run: That of the keys; None takes it from the first key.

    Raises:
        InputError: There is no run, or a key is not in it.
        ModelError: The planned weights are not here.
        DamagedError: A file of the dataset is not what its record says.
    """
    job = read_job(store, run_of_keys(keys) if run is None else run)
    stored = find_pictures(store, job, keys)
    renderer = load_planned(job.spec.render, model, models_dir, job.spec.storage)
    drawn: dict[ImageId, RenderedImage | RowFailure] = {
        result.row.image_id: result for result in renderer.render(each.row for each in stored)
    }
    replayed = [
        _compare(each, drawn[each.row.image_id], renderer, job.spec, out) for each in stored
    ]
    return ReplayReport(store.url, tuple(replayed))


def _compare(
    stored: StoredPicture,
    drawn: RenderedImage | RowFailure,
    renderer: Renderer,
    spec: RunSpec,
    out: Path | None,
) -> Replayed:
    fresh = fitted(drawn.pixels, spec.image) if isinstance(drawn, RenderedImage) else None
    now = None if fresh is None else _as_stored(fresh, spec.image)
    was = None if stored.data is None else decode(stored.data, f"picture {stored.key}")
    apart = difference(was, now) if was is not None and now is not None else None
    facts = _facts(stored, drawn, renderer, spec.render)
    error = f"{drawn.error_type}: {drawn.error_message}" if isinstance(drawn, RowFailure) else ""
    if was is None and isinstance(drawn, RowFailure):
        equal = drawn.error_type == stored.facts["error_type"]
    else:
        equal = apart is not None and _is_equal(stored, fresh, apart.largest, spec.image)
    return Replayed(
        key=stored.key,
        stored=stored.status.value,
        now=_end_of(stored, now is None).value,
        equal=equal,
        psnr_db=apart.psnr_db if apart else None,
        largest=apart.largest if apart else None,
        share=apart.share if apart else None,
        stored_error=""
        if was is not None
        else "{error_type}: {error_message}".format_map(stored.facts),
        error=error,
        changes=tuple(_changes(stored, was, facts, spec.image)),
        files=tuple(_write(out, stored.key, was, now)) if out is not None else (),
    )


def _as_stored(pixels: NDArray[np.uint8], image: ImageSpec) -> NDArray[np.uint8]:
    """What a file of this picture shows: like is compared with like."""
    return pixels if image.keeps_pixels else decode(encode(pixels, image).data)


def _is_equal(
    stored: StoredPicture, fresh: NDArray[np.uint8] | None, largest: int, image: ImageSpec
) -> bool:
    """Whether the same was drawn; of a lossy file only the hash beside it knows what that was."""
    if image.keeps_pixels:
        return largest == 0
    return fresh is not None and pixel_sha256(fresh) == stored.facts["pixel_sha256"]


def _end_of(stored: StoredPicture, failed: bool) -> RowStatus:
    """How the picture ends now; whether it would be filtered again is not asked."""
    if failed:
        return RowStatus.FAILED
    return RowStatus.FILTERED if stored.status is RowStatus.FILTERED else RowStatus.SUCCESS


def _facts(
    stored: StoredPicture, drawn: RenderedImage | RowFailure, renderer: Renderer, spec: RenderSpec
) -> Mapping[str, Any]:
    """What the columns of a picture drawn now would say, where it can be compared."""
    env = renderer.env
    facts: dict[str, Any] = {
        "row_hash": hash_of(stored.row, spec.weights_revision),
        "model_revision": spec.model_revision,
        "dtype": env.dtype,
        "pipeline_class": env.pipeline_class,
        "render_env": render_env_text(env),
        "torch_version": env.torch_version,
        "diffusers_version": env.diffusers_version,
        "sdbatch_version": installed_version(),
    }
    if isinstance(drawn, RenderedImage):
        facts |= {"batch_size": drawn.num_lanes, "prompt_truncated": drawn.prompt_truncated}
    return facts


def _changes(
    stored: StoredPicture,
    was: NDArray[np.uint8] | None,
    now: Mapping[str, Any],
    image: ImageSpec,
) -> Iterator[FactChange]:
    known = {"row_hash": stored.row.row_hash, **stored.facts}
    for name, value in now.items():
        if name in known and known[name] != value:
            yield FactChange(name, str(known[name]), str(value))
    if was is not None and image.keeps_pixels and pixel_sha256(was) != known["pixel_sha256"]:
        found = f"{pixel_sha256(was)} (the stored picture is not the one that was drawn)"
        yield FactChange("pixel_sha256", str(known["pixel_sha256"]), found)


def _write(
    out: Path, key: str, was: NDArray[np.uint8] | None, now: NDArray[np.uint8] | None
) -> Iterator[str]:
    """Both pictures as they are, and side by side with their difference."""
    pictures = {
        name: Image.fromarray(np.ascontiguousarray(pixels))
        for name, pixels in (("stored", was), ("now", now))
        if pixels is not None
    }
    if was is not None and now is not None:
        pictures["compared"] = comparison(was, now)
    for name, picture in pictures.items():
        yield save_png(picture, out / f"{key}-{name}.png")
