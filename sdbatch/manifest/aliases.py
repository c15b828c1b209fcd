"""What other tools call a column, and which column of a manifest means which of ours.

Case, blanks and hyphens do not count: `CFG scale`, `cfg-scale` and `cfg_scale` are one name.
Two columns that claim the same canonical name are refused, since either choice would be a
guess. A few columns hold more than one value or count from another number; for those a
`ColumnView` says which part is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sdbatch.errors import ManifestError
from sdbatch.records import ColumnView

WIDTH, HEIGHT, ONE_BASED = "width", "height", "one-based"
"""Parts of a stored column: the first or second number of `512x768`; a number less one."""

_OTHER_NAMES: dict[str, str] = {
    "prompt": "text caption persona",
    "negative_prompt": "negative neg_prompt",
    "seed": "random_seed noise_seed seeds gen_seeds",
    "num_inference_steps": "steps step n_steps sample_steps ddim_steps inference_steps",
    "guidance_scale": "cfg cfg_scale scale guidance guidance_scales",
    "true_cfg_scale": "true_cfg true_cfg_scales",
    "width": "w",
    "height": "h",
    "scheduler": "sampler sampler_name",
    "num_images_per_prompt": "n num_images n_samples num_generations images_per_prompt n_iter "
    "batch_size",
    "model": "model_name checkpoint ckpt ckpt_name sd_model",
    "id": "key uid uuid image_id image_name file_name",
    "clip_skip": "clip_skips",
    "strength": "denoise denoising_strength image_seed_strengths",
    "image": "init_image image_seeds",
}
ALIASES: dict[str, str] = {
    other: name for name, others in _OTHER_NAMES.items() for other in others.split()
}
"""Folded name to the canonical one."""

SHORT: dict[str, str] = {
    "p": "prompt",
    "se": "seed",
    "st": "num_inference_steps",
    "c": "guidance_scale",
    "sa": "scheduler",
}
"""DiffusionDB's own short names; they count only where `p` holds the prompts."""

SIZES = frozenset({"size", "resolution", "output_size"})
"""Columns of texts such as `512x768`: width and height in one."""

SUGGESTED: dict[str, str] = {
    "description": "prompt",
    "prompts": "prompt",
    "aspect_ratio": "width and height",
    "image_width": "width",
    "image_height": "height",
    "scheduler_name": "scheduler",
    "negative_prompts": "negative_prompt",
}
"""Names that are often something else: mentioned, never read."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Which columns are read as what.

    Attributes:
        views: Canonical columns, in the order of the manifest.
        rest: Columns that nobody claims, in the order of the manifest.
    """

    views: tuple[ColumnView, ...]
    rest: tuple[str, ...]


def fold(name: str) -> str:
    """A column name without case, blanks and hyphens."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def match_columns(manifest: str, names: Sequence[str], canonical: Collection[str]) -> Matched:
    """Find the canonical column behind each name.

    Args:
        manifest: Its name, for messages.
        names: Column names as the manifest has them.
        canonical: The names that sdbatch reads or refuses itself.

    Raises:
        ManifestError: A name stands twice, or two columns claim one canonical name.
    """
    folds = {fold(name) for name in names}
    views: list[ColumnView] = []
    rest: list[str] = []
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(manifest, -1, name, "", "stands twice, rename one of them")
        found = _views(name, folds, canonical)
        views += found
        rest += [] if found else [name]
    claims: dict[str, ColumnView] = {}
    for view in views:
        first = claims.setdefault(view.name, view)
        if first is not view:
            raise ManifestError(manifest, -1, view.stored, "", _two_claims(first, view))
    return Matched(tuple(views), tuple(rest))


def renamed(views: Sequence[ColumnView]) -> dict[str, str]:
    """Stored name to the canonical one, of columns that are read under another name."""
    found: dict[str, str] = {}
    for view in views:
        if view.canonical and (view.name != view.stored or view.part):
            known = found.get(view.stored)
            found[view.stored] = f"{known}, {view.name}" if known else view.name
    return found


def _views(name: str, folds: Collection[str], canonical: Collection[str]) -> list[ColumnView]:
    folded = fold(name)
    if folded in SIZES:
        return [ColumnView("width", name, WIDTH), ColumnView("height", name, HEIGHT)]
    if folded == "scheduler" and "sampler_name" in folds:
        # ComfyUI says the sampler in one column and the spacing of its steps in `scheduler`.
        return [ColumnView("schedule_type", name)]
    if folded == "clip_skip" and " " in name.strip():
        return [ColumnView("clip_skip", name, ONE_BASED)]  # as A1111 writes it: 1 skips nothing
    if folded in canonical:
        return [ColumnView(folded, name)]
    if folded in ALIASES:
        return [ColumnView(ALIASES[folded], name)]
    if folded in SHORT and "p" in folds and "prompt" not in folds:
        return [ColumnView(SHORT[folded], name)]
    return []


def _two_claims(first: ColumnView, second: ColumnView) -> str:
    # The canonical spelling keeps its name: the other one is the one to rename.
    keep, other = first, second
    if second.name == second.stored:
        keep, other = second, first
    return (
        f"means '{first.name}', and so does column '{first.stored}': rename '{other.stored}', "
        f"for example to 'source_{fold(other.stored)}', if '{keep.stored}' is the one to draw from"
    )
