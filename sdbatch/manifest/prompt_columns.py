"""Prompts of whole columns: which follow which syntax, which look as if they meant another.

A regular expression over the column finds the few prompts that may hold what cannot be
drawn; only those are taken apart one by one. The rule itself is `prompt_syntax.prompt_fault`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.manifest.prompt_syntax import (
    CHUNK_TOKENS,
    MAX_CHUNKS,
    PLAIN,
    parse_prompt,
    prompt_fault,
)

Mask = NDArray[np.bool_]

TEXTS = ("prompt", "negative_prompt")

_SPACE = r"[\s\p{Z}\x{1c}-\x{1f}\x{85}]*"
_SUSPECT = rf"AND|<(?:lora|lyco|hypernet):|\||[0-9.]{_SPACE}\]|[0-9]{{6}}|(?s:BREAK.*){{14}}"
"""Marks every text up to `_SHORT` bytes that cannot be drawn, and some that can."""
_SHORT = 300
"""No text of so few bytes has too many words, or weights that multiply to infinity."""
_DEEP = 60
"""Fewer brackets around numbers of five digits never do either."""
_CHUNK_BYTES = 2 * CHUNK_TOKENS
"""A word is a letter and a space at least, so a full chunk has as many bytes."""
_WEIGHTED = r"\([^()]*:\s*[0-9.]+\s*\)|\(\([^()]*\)\)|\bBREAK\b|<(?:lora|lyco|hypernet):"


def syntax_mask(table: pa.Table, default: str, syntax: str) -> Mask:
    """Rows of a table that follow a syntax; a column that says nothing follows `default`."""
    if "prompt_syntax" not in table.column_names:
        return np.full(table.num_rows, default == syntax)
    stated = table.column("prompt_syntax").cast(pa.string())
    blank = pc.fill_null(pc.equal(stated, ""), True)
    return np.asarray(pc.equal(pc.if_else(blank, default, stated), syntax))


def undrawable(column: pa.ChunkedArray, rows: Mask) -> Mask:
    """Texts in A1111's syntax that ask for what cannot be drawn.

    Args:
        column: Texts.
        rows: Which of them follow that syntax.
    """
    found = np.zeros(len(column), np.bool_)
    if rows.any():
        texts = column.cast(pa.large_string())
        for place in np.flatnonzero(_suspects(texts) & rows).tolist():
            found[place] = bool(text_fault(texts[place].as_py()))
    return found


def text_fault(text: str) -> str:
    """Why a text in A1111's syntax cannot be drawn; empty when it can."""
    return prompt_fault(parse_prompt(text))


def count_weighted(table: pa.Table, default: str) -> int:
    """Rows whose prompt looks weighted and is drawn as plain text."""
    rows = syntax_mask(table, default, PLAIN)
    if not rows.any():
        return 0
    prompts = table.column("prompt").cast(pa.large_string())
    return int(np.count_nonzero(_matches(prompts, _WEIGHTED) & rows))


def weighted_note(count: int) -> tuple[str, ...]:
    """The sentence about such rows for `plan`; none when there are none."""
    if not count:
        return ()
    rows = "1 prompt looks" if count == 1 else f"{count:,} prompts look"
    return (
        f"{rows} weighted, such as (word:1.2) or BREAK, and will be drawn as plain text: "
        "--prompt-syntax a1111 (or a column prompt_syntax) reads the weights",
    )


def _suspects(texts: pa.ChunkedArray) -> Mask:
    """Texts that may hold what cannot be drawn, all that do among them."""
    found = _matches(texts, _SUSPECT)
    size = pc.fill_null(pc.binary_length(texts), 0)
    longer = np.asarray(pc.greater(size, _SHORT))
    if longer.any():
        rest = texts.filter(pa.array(longer))
        breaks = np.asarray(pc.count_substring(rest, "BREAK"))
        full = np.asarray(size)[longer] + breaks * _CHUNK_BYTES > (MAX_CHUNKS - 1) * _CHUNK_BYTES
        found[longer] |= full | (np.asarray(pc.count_substring(rest, "(")) >= _DEEP)
    return found


def _matches(texts: pa.ChunkedArray, pattern: str) -> Mask:
    return np.array(pc.fill_null(pc.match_substring_regex(texts, pattern), False))
