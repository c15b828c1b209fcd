"""Whether rows of one call are independent, tried before the first row.

A pipeline may pad prompts to the longest of a call, draw noise for all rows at once, or know a
kernel whose sums depend on a row's place. Then a row would look different in other company.
What matters is seen in two steps: a row among copies of itself, first and last among others.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sdbatch.errors import InputError
from sdbatch.records import RenderRow
from sdbatch.render.device import PASS_ERRORS, is_broken, is_out_of_memory
from sdbatch.render.pipelines.pipeline_call import PipelineCall

STEPS = 2
SHORT = "a red house"
LONG = "an old photograph of three small boats with white sails beside a green island at noon"


def why_coupled(call: PipelineCall, like: RenderRow, places: int) -> str:
    """Why rows of one call are not independent; empty where they are.

    Args:
        call: The pipeline.
        like: A row with the size, the guidance and a negative prompt, or none, of those in
            question; its other words can be drawn.
        places: Rows of a call; two or more.

    Raises:
        RuntimeError: There is no memory for them, or the device fails.
    """
    like = replace(like, num_inference_steps=min(STEPS, like.num_inference_steps))
    row, other = _saying(call, like, SHORT), _saying(call, replace(like, seed=1), LONG)
    others = [other] * (places - 1)
    try:
        alone, first, last = (
            call.draw(rows) for rows in ([row] * places, [row, *others], [*others, row])
        )
    except (InputError, *PASS_ERRORS) as error:
        if is_broken(error) or is_out_of_memory(error):
            raise
        return f"it refuses several ({' '.join(str(error).split())[:100]})"
    if torch.equal(alone[0], first[0]) and torch.equal(alone[0], last[-1]):
        return ""
    return "several in one call change each other's pixels"


def _saying(call: PipelineCall, row: RenderRow, words: str) -> RenderRow:
    """The row with these words, as far as the pipeline reads any."""
    if row.negative_prompt:
        row = replace(row, negative_prompt=words)
    told = replace(row, prompt=words)
    return row if call.fault(told) else told
