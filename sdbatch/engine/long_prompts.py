"""A word in time about prompts that the text encoder will cut: counted in a sample."""

from __future__ import annotations

import pyarrow as pa

from sdbatch.engine.words import prompt_texts
from sdbatch.manifest.prompt_columns import syntax_mask
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.manifest.reader import Manifest, Storage, read_rows
from sdbatch.records import ModelFacts
from sdbatch.render.prompt_length import prompt_lengths

WINDOWS = 4
WINDOW_ROWS = 512
"""Rows of each window; the windows lie evenly over the manifest."""


def long_prompts_note(
    model: ModelFacts, manifest: Manifest, storage: Storage, prompt_syntax: str = PLAIN
) -> list[str]:
    """One line when prompts of a sample are longer than what the model reads, else nothing.

    Only plain prompts are ever cut; `prompt_syntax` is that of rows that name none.
    """
    prompts = _sample(manifest, storage, prompt_syntax)
    lengths = prompt_lengths(model, prompts)
    if lengths is None or not lengths.num_cut:
        return []
    all_rows = len(prompts) == manifest.ref.num_rows
    about = "" if lengths.exact else "about "
    among = f"{len(prompts):,}" if all_rows else f"a sample of {len(prompts):,}"
    verb = "prompt has" if lengths.num_cut == 1 else "prompts have"
    return [
        f"{about}{lengths.num_cut:,} of {among} {verb} more than the {lengths.room} tokens that "
        f"model '{model.name}' reads: what comes after them is not drawn"
    ]


def _sample(manifest: Manifest, storage: Storage, prompt_syntax: str) -> list[str]:
    columns = [name for name in ("prompt", "prompt_syntax") if name in manifest.schema.names]
    rows = manifest.ref.num_rows
    if rows <= WINDOWS * WINDOW_ROWS:
        spans = [(0, rows)]
    else:
        starts = [place * (rows - WINDOW_ROWS) // (WINDOWS - 1) for place in range(WINDOWS)]
        spans = [(start, start + WINDOW_ROWS) for start in starts]
    prompts: list[str] = []
    for first, end in spans:
        table = read_rows(manifest.ref, first, end, columns, storage)
        plain = syntax_mask(table, prompt_syntax, PLAIN)
        prompts += prompt_texts(table.filter(pa.array(plain)))
    return prompts
