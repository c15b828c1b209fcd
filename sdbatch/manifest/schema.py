"""What the columns of a manifest mean: names, Arrow types, what may stand beside them.

Canonical columns carry diffusers' names. Every other column belongs to the user and
passes through to the dataset untouched, but for those of `manifest/later.py`. A column that
looks like a canonical one under a name nobody uses is passed through and mentioned.
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
from sdbatch.manifest.aliases import ALIASES, SUGGESTED, fold
from sdbatch.manifest.later import LATER as LATER
from sdbatch.manifest.scheduler_names import choose_scheduler, lacking_reason, nearest_names

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
    "true_cfg_scale": pa.float32(),
    "scheduler": pa.string(),
    "scheduler_config": pa.string(),
    "schedule_type": pa.string(),
    "num_images_per_prompt": pa.int32(),
    "prompt_syntax": pa.string(),
    "micro_conditioning": pa.string(),
    "model": pa.string(),
    "task": pa.string(),
}
"""Columns that are read, and the type a value has once it is read. Guidance is float32
throughout, as the dataset stores it: a picture is drawn with exactly the stored value."""


@dataclass(frozen=True, slots=True)
class Columns:
    """How the columns of a manifest are read.

    Attributes:
        canonical: Those that sdbatch reads, in manifest order.
        user: Those that pass through to the dataset, in manifest order.
        notes: Sentences for `plan` about columns that may be meant otherwise.
        later: Those that no row may fill, in manifest order; they do not pass through.
    """

    canonical: tuple[str, ...]
    user: tuple[str, ...]
    notes: tuple[str, ...]
    later: tuple[str, ...] = ()


def read_columns(
    manifest: str, schema: pa.Schema, reserved: frozenset[str] = frozenset()
) -> Columns:
    """Sort a manifest's columns into those that are read and those that pass through.

    Args:
        manifest: Its name, for messages.
        schema: Arrow schema of the manifest.
        reserved: Names the dataset needs for its own columns.

    Raises:
        ManifestError: A column stands twice, takes a reserved name or has a type its values
            cannot have; or there is no `prompt`.
    """
    names = tuple(schema.names)
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(manifest, -1, name, "", "stands twice, rename one of them")
    if "prompt" not in names:
        raise ManifestError(manifest, -1, "", "", _no_prompt(names))
    canonical = tuple(name for name in names if name in CANONICAL)
    later = tuple(name for name in names if name in LATER)
    user = tuple(name for name in names if name not in CANONICAL and name not in LATER)
    for name in user:
        if name in reserved:
            reason = (
                "the dataset has a column of this name itself, rename yours or set "
                "--passthrough-prefix in_"
            )
            raise ManifestError(manifest, -1, name, "", reason)
    for name in canonical:
        _check_type(manifest, name, schema.field(name).type)
    return Columns(canonical, user, tuple(_notes(names, user)), later)


def canonical_table(table: pa.Table) -> pa.Table:
    """The canonical columns of a table in their canonical types; other columns are left out.

    Values that do not fit become wrong, not errors: `manifest.checks` is what finds them.
    """
    names = [name for name in CANONICAL if name in table.column_names]
    columns = [table.column(name).cast(CANONICAL[name], safe=False) for name in names]
    return pa.table(columns, names=names)


def scheduler_class(name: str) -> str:
    """A scheduler's class name, however it is named (`manifest/scheduler_names.py`)."""
    return choose_scheduler(name).scheduler


def scheduler_fault(text: str, known: Collection[str], unfit: Mapping[str, str]) -> str:
    """Why a row's scheduler is refused; empty when it is not.

    Args:
        text: What the row says, in the words of any program.
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
        scheduler: Its class name.
        config: JSON object of overrides; empty for none.
        options: Class name to the keys it takes; classes that are absent are not judged.
    """
    name = scheduler_class(scheduler)
    if name not in options or not config or json_object_fault(config):
        return ""
    for key in json.loads(config):
        if key not in options[name]:
            near = difflib.get_close_matches(key, sorted(options[name]), n=1, cutoff=0.6)
            return f"{name} takes no '{key}'" + (f", did you mean '{near[0]}'?" if near else "")
    return ""


def unknown_scheduler(name: str, known: Iterable[str]) -> str:
    """Why a scheduler's name is refused, with the three nearest names that are known."""
    reason = lacking_reason(name) or "no such scheduler"
    return f"{reason}, nearest are {', '.join(nearest_names(name, known))}"


def json_object_fault(text: str) -> str:
    """Why a text is no JSON object; empty when it is one."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    right = 'must be a JSON object such as {"use_karras_sigmas": true}'
    return "" if isinstance(value, dict) else right


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


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
        if name in ("id", "scheduler"):
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
    folded = fold(name)
    if folded in CANONICAL:
        return folded
    if folded in {**ALIASES, **SUGGESTED}:
        return {**ALIASES, **SUGGESTED}[folded]
    close = difflib.get_close_matches(folded, CANONICAL, n=1, cutoff=0.85)
    return close[0] if close else ""
