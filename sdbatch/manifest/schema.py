"""What the columns of a manifest mean: names, Arrow types, what may stand beside them.

Canonical columns carry diffusers' names. Every other column belongs to the user and
passes through to the dataset untouched. A column that a later version reads is refused
here, because passing it through would look as if it had been obeyed; a column that looks
like a canonical one under another name is passed through and mentioned.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.errors import ManifestError

TASK = "text2image"
MAX_SIZE_PX = 16384
MAX_IMAGES_PER_PROMPT = 1000
MAX_SEED = 2**63 - 1

CANONICAL: dict[str, pa.DataType] = {
    "id": pa.string(),
    "prompt": pa.string(),
    "negative_prompt": pa.string(),
    "seed": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "num_inference_steps": pa.int32(),
    "guidance_scale": pa.float32(),
    "scheduler": pa.string(),
    "scheduler_config": pa.string(),
    "num_images_per_prompt": pa.int32(),
    "model": pa.string(),
    "task": pa.string(),
}
"""Columns that are read, and the type a value has once it is read. Guidance is float32
throughout, as the dataset stores it: a picture is drawn with exactly the stored value."""

LATER = frozenset(
    {
        "image",
        "mask_image",
        "control_image",
        "strength",
        "loras",
        "upscale_factor",
        "clip_skip",
        "true_cfg_scale",
        "prompt_2",
        "negative_prompt_2",
    }
)
"""Columns that ask for something this version cannot do."""

_OTHER_NAMES: dict[str, str] = {
    "prompt": "text caption prompts description persona",
    "negative_prompt": "negative neg_prompt negative_prompts",
    "seed": "random_seed noise_seed seeds se",
    "num_inference_steps": "steps step n_steps sample_steps ddim_steps inference_steps st",
    "guidance_scale": "cfg cfg_scale scale guidance guidance_scales",
    "width": "w image_width",
    "height": "h image_height",
    "scheduler": "sampler sampler_name scheduler_name",
    "num_images_per_prompt": "n num_images n_samples num_generations images_per_prompt n_iter",
    "model": "model_name checkpoint ckpt ckpt_name sd_model",
    "id": "key uid uuid image_id image_name",
}
ALIASES: dict[str, str] = {
    other: name for name, others in _OTHER_NAMES.items() for other in others.split()
}
"""What other tools call a canonical column, lower case."""


@dataclass(frozen=True, slots=True)
class Columns:
    """How the columns of a manifest are read.

    Attributes:
        canonical: Those that sdbatch reads, in manifest order.
        user: Those that pass through to the dataset, in manifest order.
        notes: Sentences for `plan` about columns that may be meant otherwise.
    """

    canonical: tuple[str, ...]
    user: tuple[str, ...]
    notes: tuple[str, ...]


def read_columns(
    manifest: str, schema: pa.Schema, reserved: frozenset[str] = frozenset()
) -> Columns:
    """Sort a manifest's columns into those that are read and those that pass through.

    Args:
        manifest: Its name, for messages.
        schema: Arrow schema of the manifest.
        reserved: Names the dataset needs for its own columns.

    Raises:
        ManifestError: A column stands twice, asks for what this version cannot do, takes a
            reserved name or has a type its values cannot have; or there is no `prompt`.
    """
    names = tuple(schema.names)
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(manifest, -1, name, "", "stands twice, rename one of them")
        if name in LATER:
            reason = "this version does not draw from this column, remove or rename it"
            raise ManifestError(manifest, -1, name, "", reason)
    if "prompt" not in names:
        raise ManifestError(manifest, -1, "", "", _no_prompt(names))
    canonical = tuple(name for name in names if name in CANONICAL)
    user = tuple(name for name in names if name not in CANONICAL)
    for name in user:
        if name in reserved:
            reason = "the dataset has a column of this name itself, rename yours"
            raise ManifestError(manifest, -1, name, "", reason)
    for name in canonical:
        _check_type(manifest, name, schema.field(name).type)
    return Columns(canonical, user, tuple(_notes(names, user)))


def canonical_table(table: pa.Table) -> pa.Table:
    """The canonical columns of a table in their canonical types; other columns are left out.

    Values that do not fit become wrong, not errors: `manifest.checks` is what finds them.
    """
    names = [name for name in CANONICAL if name in table.column_names]
    columns = [table.column(name).cast(CANONICAL[name], safe=False) for name in names]
    return pa.table(columns, names=names)


def scheduler_class(name: str) -> str:
    """A scheduler's class name, from its name with or without the suffix `Scheduler`."""
    return name if name.endswith("Scheduler") else f"{name}Scheduler"


def scheduler_fault(text: str, known: Collection[str], unfit: Mapping[str, str]) -> str:
    """Why a row's scheduler is refused; empty when it is not.

    Args:
        text: What the row says, with or without the suffix.
        known: Class names that can be drawn with.
        unfit: Those that exist and cannot, with the reason.
    """
    name = scheduler_class(text)
    if name in known:
        return ""
    if name in unfit:
        return (
            f"cannot draw with this model: {unfit[name]}; "
            "'sdbatch manifest schedulers' lists those that can"
        )
    return unknown_scheduler(text, known)


def option_fault(scheduler: str, config: str, options: Mapping[str, Collection[str]]) -> str:
    """Why a scheduler does not take a row's configuration; empty when it does.

    Args:
        scheduler: Its name, with or without the suffix.
        config: JSON object of overrides.
        options: Class name to the keys it takes; classes that are absent are not judged.
    """
    name = scheduler_class(scheduler)
    if name not in options or json_object_fault(config):
        return ""
    for key in json.loads(config):
        if key not in options[name]:
            near = difflib.get_close_matches(key, sorted(options[name]), n=1, cutoff=0.6)
            return f"{name} takes no '{key}'" + (f", did you mean '{near[0]}'?" if near else "")
    return ""


def unknown_scheduler(name: str, known: Iterable[str]) -> str:
    """Why a scheduler's name is refused, with the three nearest names that are known."""
    by_fold = {scheduler.lower(): scheduler for scheduler in sorted(known)}
    close = difflib.get_close_matches(scheduler_class(name).lower(), by_fold, n=3, cutoff=0.0)
    return f"no such scheduler, nearest are {', '.join(by_fold[fold] for fold in close)}"


def json_object_fault(text: str) -> str:
    """Why a text is no JSON object; empty when it is one."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    right = 'must be a JSON object such as {"use_karras_sigmas": true}'
    return "" if isinstance(value, dict) else right


def canonical_json(text: str) -> str:
    """The same JSON object with sorted keys and no spaces; an empty text stays empty.

    Raises:
        ValueError: It is not JSON.
    """
    if not text:
        return ""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are texts, in whichever layout."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(test(kind) for test in tests)


def blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of values that say nothing: null, or an empty text."""
    text = column.cast(pa.large_string())
    return pc.fill_null(pc.equal(text, ""), True)


def _check_type(manifest: str, name: str, kind: pa.DataType) -> None:
    wanted = CANONICAL[name]
    if pa.types.is_null(kind):
        return
    if pa.types.is_string(wanted):
        fits, right = is_text(kind), "texts"
        if name == "id":
            fits, right = fits or pa.types.is_integer(kind), "texts or whole numbers"
    else:
        fits = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        right = "numbers" if pa.types.is_floating(wanted) else "whole numbers"
    if not fits:
        raise ManifestError(manifest, -1, name, "", f"holds {kind}, must hold {right}")


def _no_prompt(names: tuple[str, ...]) -> str:
    meant = [name for name in names if _meant_by(name) == "prompt"]
    if meant:
        return f"no column 'prompt'; rename '{meant[0]}' to 'prompt' if that is what it holds"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"no column 'prompt' among {shown or 'no columns'}; name the column of texts 'prompt'"


def _notes(names: tuple[str, ...], user: tuple[str, ...]) -> Iterable[str]:
    for name in user:
        meant = _meant_by(name)
        if meant and meant not in names:
            yield f"column '{name}' is passed through, not read; did you mean {meant}?"


def _meant_by(name: str) -> str:
    fold = name.lower().replace("-", "_").replace(" ", "_")
    if fold in CANONICAL:
        return fold
    if fold in ALIASES:
        return ALIASES[fold]
    close = difflib.get_close_matches(fold, CANONICAL, n=1, cutoff=0.85)
    return close[0] if close else ""
