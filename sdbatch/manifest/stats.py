"""What a manifest holds, counted in one pass and bounded memory: histograms and likenesses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.errors import ManifestError
from sdbatch.manifest.content import id_digests
from sdbatch.manifest.near_duplicates import NearDuplicates, words_of
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.repeats import Repeats
from sdbatch.manifest.schema import canonical_table, read_columns

WORDS = (0, 1, 3, 6, 11, 21, 41, 81, 161)
"""Where the ranges of prompt lengths begin."""
KEPT = 1000
"""Different values of a setting that are counted one by one."""
OTHER, UNSTATED = "other", "unstated"
SETTINGS = (
    *("num_inference_steps", "guidance_scale", "true_cfg_scale", "scheduler"),
    "num_images_per_prompt",
)


@dataclass(frozen=True, slots=True)
class ManifestStats:
    """What a manifest holds.

    Attributes:
        settings: Setting to value to rows, most frequent first; `unstated` where rows leave it
            open, `other` for values beyond the first thousand.
        words: Range of words in a prompt, such as `6-10`, to rows.
        repeated_prompts: Rows whose prompt is that of an earlier row.
        near_duplicates: Rows whose prompt says nearly what an earlier one says, others left out.
        near_pairs: The first of them: (earlier row, row).
    """

    rows: int
    columns: dict[str, str]
    settings: dict[str, dict[str, int]]
    words: dict[str, int]
    empty_prompts: int
    repeated_prompts: int
    near_duplicates: int
    near_pairs: list[tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)


def manifest_stats(manifest: Manifest, storage: Storage = None) -> ManifestStats:
    """Count a manifest.

    Raises:
        ManifestError: It cannot be read, or holds texts that are no UTF-8.
        StorageError: The store cannot be reached, or the folder for temporary files is full.
    """
    ref = manifest.ref
    wanted = list(read_columns(ref.name, manifest.schema).canonical)
    counts: dict[str, Counter[str]] = {}
    words: Counter[int] = Counter()
    with ExitStack() as keep:
        repeats = keep.enter_context(Repeats())
        near = keep.enter_context(NearDuplicates(ref.num_rows))
        first_row = 0
        for table in iter_tables(ref, wanted, storage=storage):
            _demand_readable(ref.name, table)
            _count_settings(table, counts)
            prompts = table.column("prompt").cast(pa.string())
            lengths = words_of(prompts)[0]
            words.update(np.searchsorted(WORDS, lengths, side="right").tolist())
            repeats.add(id_digests(prompts), np.arange(first_row, first_row + len(prompts)))
            near.add(prompts, first_row)
            first_row += len(prompts)
        repeated = np.zeros(ref.num_rows, np.bool_)
        for rows, _, _ in repeats.found():
            repeated[rows] = True
        alike, pairs = near.found()
    return ManifestStats(
        rows=ref.num_rows,
        columns={field.name: str(field.type) for field in manifest.schema},
        settings={name: dict(count.most_common()) for name, count in counts.items()},
        words={_range(place): words[place] for place in sorted(words)},
        empty_prompts=words[1],
        repeated_prompts=int(repeated.sum()),
        near_duplicates=int((alike & ~repeated).sum()),
        near_pairs=[pair for pair in pairs if not repeated[pair[1]]],
    )


def _demand_readable(name: str, table: pa.Table) -> None:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        reason = "holds texts that are not UTF-8: 'sdbatch manifest check' names them"
        raise ManifestError(name, -1, "", "", reason) from error


def _count_settings(table: pa.Table, counts: dict[str, Counter[str]]) -> None:
    known = canonical_table(table)
    columns = {name: known.column(name) for name in SETTINGS if name in known.column_names}
    if {"width", "height"} & set(known.column_names):
        sides = [_texts(known, name) for name in ("width", "height")]
        columns["size"] = pc.binary_join_element_wise(*sides, "x")
    for name, column in columns.items():
        _add(counts.setdefault(name, Counter()), column)


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.array(["?"] * table.num_rows)])
    return pc.fill_null(table.column(name).cast(pa.string()), "?")


def _add(counter: Counter[str], column: pa.ChunkedArray) -> None:
    for one in pc.value_counts(column).to_pylist():
        value, rows = one["values"], one["counts"]
        if value is None or value in ("", "?x?"):
            text = UNSTATED
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        counter[text if text in counter or len(counter) < KEPT else OTHER] += rows


def _range(place: int) -> str:
    low = WORDS[place - 1]
    if place == len(WORDS):
        return f"{low} or more"
    high = WORDS[place] - 1
    return str(low) if low == high else f"{low}-{high}"


def bars(counts: Mapping[str, int], most: int = 12) -> list[str]:
    """Lines of a histogram for a terminal, with what is left out in the last one."""
    shown = list(counts.items())[:most]
    rest = sum(counts.values()) - sum(rows for _, rows in shown)
    if rest:
        shown.append((f"{len(counts) - most} others", rest))
    width = max((len(name) for name, _ in shown), default=0)
    top = max((rows for _, rows in shown), default=1)
    return [
        f"  {name:<{width}}  {rows:>12,}  {'#' * max(round(30 * rows / top), 1)}"
        for name, rows in shown
    ]
