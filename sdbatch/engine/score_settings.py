"""`--score`, `--safety`, `--filter` and `--best-of`, decided when the plan is made.

Columns are frozen then, so a name that clashes, a condition over a column that there is not
and a best by something that is no number are refused before anything is drawn. Revisions of
the scorers are part of the plan as the model's own is; where they lie is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
from pyarrow import types

from sdbatch.dataset.schema import metadata_schema
from sdbatch.dataset.where import parse_where, unknown_column
from sdbatch.errors import InputError, JobError
from sdbatch.manifest.schema import Columns
from sdbatch.model_specs import ScorerSpec
from sdbatch.plan.settings import Resolved
from sdbatch.render.judges.scorer_facts import find_scorers, score_columns

SCORERS = "scorers"
"""Setting that says which weights judge: names with the beginnings of their revisions."""

_COUNT = "defaults.num_images_per_prompt"
_SHOWN_DIGITS = 16


def with_scores(resolved: Resolved, columns: Columns) -> tuple[Resolved, tuple[ScorerSpec, ...]]:
    """Settings with the scorers' revisions and what `--best-of` decides, and the scorers.

    Args:
        resolved: With the job's own keys, and what the dataset decides.
        columns: Of the manifest.

    Raises:
        JobError: What was asked for contradicts itself.
        InputError: A scorer is not there, or the manifest says how many pictures a row has.
    """
    scorers = find_scorers(resolved.value("scores"), resolved.value("safety"))
    revisions = ", ".join(f"{each.name} {each.revision[:_SHOWN_DIGITS]}" for each in scorers)
    resolved = resolved.with_value(SCORERS, revisions, "their files" if scorers else "default")
    if resolved.explicit & {"scores", "safety"}:
        resolved = replace(resolved, explicit=resolved.explicit | {SCORERS})
    return _with_best_of(resolved, columns, scorers), scorers


def demand_choosable(resolved: Resolved, schema: pa.Schema) -> None:
    """Refuse a condition or a best that the dataset's columns cannot answer.

    Args:
        resolved: All settings.
        schema: Of `data/`.

    Raises:
        InputError: They cannot; the nearest column is named.
    """
    known = metadata_schema(schema)
    said, column = resolved.settings["filter"], resolved.settings["best_by"]
    if said.value:
        try:
            parse_where(said.value, known)
        except InputError as error:
            raise InputError(f"{_flag(said.source, '--filter')}: {error}") from error
    if column.value:
        flag = f"{_flag(column.source, '--best-by')} {column.value}"
        if column.value not in known.names:
            raise InputError(f"{flag}: {unknown_column(column.value, known.names)}")
        kind = known.field(column.value).type
        if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)):
            numbers = ", ".join(_numbers(known))
            raise InputError(
                f"{flag}: is of type {kind}, the best of it is not known: use one of {numbers}"
            )


def scorer_notes(scorers: Sequence[ScorerSpec]) -> Iterator[str]:
    """A line for each scorer of a new run."""
    for each in scorers:
        columns = " and ".join(each.columns)
        yield f"{columns}: {each.kind} model {each.model}, revision {each.revision[:12]}"


def _with_best_of(resolved: Resolved, columns: Columns, scorers: Sequence[ScorerSpec]) -> Resolved:
    best_of, best_by = resolved.value("best_of"), resolved.value("best_by")
    if not best_of:
        if best_by:
            raise JobError(f"--best-by {best_by}: says nothing without --best-of N, add it")
        return resolved
    flag = f"--best-of {best_of}"
    if "num_images_per_prompt" in columns.canonical:
        raise InputError(
            f"{flag}: the manifest has a column num_images_per_prompt, which says so for each "
            "row: leave one of them out"
        )
    if _COUNT in resolved.explicit and resolved.value(_COUNT) != best_of:
        raise JobError(
            f"{flag}: draws {best_of} pictures of each row, and --num-images-per-prompt says "
            f"{resolved.value(_COUNT)}: leave that out"
        )
    if not best_by:
        names = [name for name in score_columns(scorers) if name.endswith("_score")]
        if not names or names[0] == "nsfw_score":
            raise JobError(f"{flag}: by what? add --score clip=MODEL, or --best-by sharpness")
        resolved = resolved.with_value("best_by", names[0], "the first score")
    return resolved.with_value(_COUNT, best_of, flag)


def _numbers(schema: pa.Schema) -> Iterator[str]:
    """Columns that `--best-by` is most likely about."""
    for field in schema:
        if types.is_floating(field.type) and field.name not in ("guidance_scale", "latency_ms"):
            yield field.name


def _flag(source: str, usual: str) -> str:
    return source if source.startswith(("--", "job file")) else usual
