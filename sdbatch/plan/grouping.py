"""The order in which a worker visits pictures: alike ones together, long ones first.

Pictures of one size share a pass, so sizes are visited one after the other. Within a size
the longest rows start first: short ones then fill the lanes that fall free at the end.
Rows whose scheduler is no table share a pass with rows of equal settings only, so they
come last in their size, setting by setting. Prompts of unlike length in chunks share no pass
either, so those that surely take more come first.
"""

from __future__ import annotations

from collections.abc import Iterable

from sdbatch.manifest.prompt_syntax import PLAIN, least_chunks, parse_prompt
from sdbatch.plan.facts import row_untabled
from sdbatch.records import RenderRow


def model_calls(row: RenderRow) -> int:
    """Lane passes a picture takes: its steps, twice where guidance needs two lanes."""
    return row.num_inference_steps * (2 if row.guided else 1)


def visiting_order(rows: Iterable[RenderRow]) -> list[RenderRow]:
    """The same pictures: largest size first, tables before groups, then most model calls."""
    return sorted(
        rows,
        key=lambda row: (
            *(-row.width_px * row.height_px, row.width_px, _group(row)),
            *(-_chunks(row), -model_calls(row)),
            *row.image_id,
        ),
    )


def _chunks(row: RenderRow) -> int:
    """About how many chunks its prompts take: only rows of equally many share a pass."""
    if row.prompt_syntax == PLAIN:
        return 1
    texts = (row.prompt, row.negative_prompt) if row.guided else (row.prompt,)
    return max(least_chunks(parse_prompt(text)) for text in texts)


def _group(row: RenderRow) -> tuple[object, ...]:
    """What rows of a group have in common; empty for a scheduler that is a table."""
    if not row_untabled(row.scheduler, row.scheduler_config):
        return ()
    return (row.scheduler, row.scheduler_config, row.num_inference_steps, row.guided)
