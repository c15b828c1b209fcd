"""What a bound template says in many rows at once: every slot a column of texts.

A grid row is a number whose digits are the slots' choices; a random row draws its own. Both
go through the template part by part over whole columns of rows, never row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.manifest.template_binding import Bound, Pick, Slot, Template, Variable, size_of

Column = NDArray[Any]
"""Texts as Python objects, one a row."""
Env = Mapping[str, Column]
"""Variables that are set, by name."""
MAX_KEYS = 1 << 22
"""Random numbers held at once where several options are chosen."""


def grid_rows(template: Template, first: int, end: int) -> tuple[Column, dict[str, Column]]:
    """Rows `[first, end)` of the grid: prompts, and the columns of the slots.

    The leftmost slot changes slowest, the rightmost from row to row; options come in the
    order in which they are written, weights do not count.
    """
    sizes = [size_of(slot.value) for slot in template.slots]
    strides = _strides(sizes)
    index = np.arange(first, end, dtype=np.int64)
    ranks = {
        slot.column: index // stride % size
        for slot, stride, size in zip(template.slots, strides, sizes, strict=True)
    }
    return _rows(template, end - first, lambda slot, env: _at(slot.value, ranks[slot.column], env))


def random_rows(
    template: Template, count: int, generator: np.random.Generator
) -> tuple[Column, dict[str, Column]]:
    """`count` rows drawn by weight: prompts, and the columns of the slots.

    Several options of one choice are drawn one after the other without putting back, and
    stand in the order in which they are written: every random row is a row of the grid.
    """
    return _rows(template, count, lambda slot, env: _drawn(slot.value, count, env, generator))


def _rows(
    template: Template, count: int, value: Callable[[Slot, Env], Column]
) -> tuple[Column, dict[str, Column]]:
    env: dict[str, Column] = {}
    columns: dict[str, Column] = {}
    prompt = _constant("", count)
    for part in template.parts:
        if isinstance(part, Slot):
            said = columns[part.column] = value(part, env)
            if part.variable:
                env[part.variable] = said
                continue
            prompt = prompt + said
        else:
            prompt = prompt + (env[part.name] if isinstance(part, Variable) else part)
    return prompt, columns


def _at(bound: Bound, ranks: NDArray[np.int64], env: Env) -> Column:
    """Texts of some ranks of something bound, `[N]` to `[N]`."""
    picks = [part for part in bound if isinstance(part, Pick)]
    sizes = [pick.size for pick in picks]
    digits = iter(
        [ranks // stride % size for stride, size in zip(_strides(sizes), sizes, strict=True)]
    )
    return _joined(bound, len(ranks), env, lambda pick: _pick_at(pick, next(digits), env))


def _pick_at(pick: Pick, ranks: NDArray[np.int64], env: Env) -> Column:
    subsets, starts, texts = pick.grid
    which = np.searchsorted(starts, ranks, side="right") - 1
    if texts is not None:
        return texts[which]
    said = _constant("", len(ranks))
    rest = ranks - starts[which]
    for number in np.unique(which):
        rows = np.flatnonzero(which == number)
        here = _some(env, rows)
        chosen = subsets[number]
        strides = _strides([pick.sizes[option] for option in chosen])
        for place, (option, stride) in enumerate(zip(chosen, strides, strict=True)):
            digit = rest[rows] // stride % pick.sizes[option]
            value = _at(pick.options[option], digit, here)
            said[rows] = said[rows] + (pick.separator if place else "") + value
    return said


def _drawn(bound: Bound, count: int, env: Env, generator: np.random.Generator) -> Column:
    """Random texts of something bound, one a row."""
    return _joined(bound, count, env, lambda pick: _pick_drawn(pick, count, env, generator))


def _pick_drawn(pick: Pick, count: int, env: Env, generator: np.random.Generator) -> Column:
    if pick.low == pick.high == 1:
        chosen = np.searchsorted(pick.shares, generator.random(count), side="right")
        chosen = np.minimum(chosen, len(pick.options) - 1)
        return _options_drawn(pick, chosen, env, generator)
    said = _constant("", count)
    step = max(MAX_KEYS // len(pick.options), 1)
    numbers = generator.integers(pick.low, pick.high + 1, count)
    for first in range(0, count, step):
        rows = np.arange(first, min(first + step, count))
        keys = _keys(pick, len(rows), generator)
        for number in range(max(pick.low, 1), pick.high + 1):
            mine = numbers[rows] == number
            if mine.any():
                here = rows[mine]
                said[here] = _several_drawn(pick, keys[mine], number, _some(env, here), generator)
    return said


def _keys(pick: Pick, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """A waiting time for every option in every row: the shortest are as drawn by weight."""
    weights = np.array(pick.weights)
    keys: NDArray[np.float64] = -np.log1p(-generator.random((count, len(weights)))) / weights
    return keys


def _several_drawn(
    pick: Pick, keys: NDArray[np.float64], number: int, env: Env, generator: np.random.Generator
) -> Column:
    chosen = np.sort(np.argsort(keys, axis=1, kind="stable")[:, :number], axis=1)
    said = _options_drawn(pick, chosen[:, 0], env, generator)
    for place in range(1, number):
        said = said + pick.separator + _options_drawn(pick, chosen[:, place], env, generator)
    return said


def _options_drawn(
    pick: Pick, chosen: NDArray[np.int64], env: Env, generator: np.random.Generator
) -> Column:
    """Random texts of the chosen option of every row."""
    if pick.texts is not None:
        return pick.texts[chosen]
    said = _constant("", len(chosen))
    order = np.argsort(chosen, kind="stable")
    options, starts = np.unique(chosen[order], return_index=True)
    for option, first, end in zip(options, starts, [*starts[1:], len(order)], strict=True):
        rows = order[first:end]
        said[rows] = _drawn(pick.options[option], len(rows), _some(env, rows), generator)
    return said


def _joined(bound: Bound, count: int, env: Env, value: Callable[[Pick], Column]) -> Column:
    said = _constant("", count)
    for part in bound:
        if isinstance(part, Pick):
            said = said + value(part)
        else:
            said = said + (env[part.name] if isinstance(part, Variable) else part)
    return said


def _strides(sizes: Sequence[int]) -> list[int]:
    """How many ranks lie between two values of each digit; the last digit changes fastest."""
    strides = [1] * len(sizes)
    for place in range(len(sizes) - 2, -1, -1):
        strides[place] = strides[place + 1] * sizes[place + 1]
    return strides


def _some(env: Env, rows: NDArray[np.int64]) -> Env:
    return {name: column[rows] for name, column in env.items()}


def _constant(text: str, count: int) -> Column:
    return np.full(count, text, dtype=object)
