"""Templates with their wildcards put in: a tree of texts and picks that is ready to draw from.

Binding finds what parsing cannot: a wildcard that is missing, empty or chooses from itself,
a variable that nobody sets, more picks than options. What is bound knows how many prompts
it can say, exactly, before the first is made.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdbatch.manifest.template_syntax import (
    MAX_DEPTH,
    Assign,
    Choice,
    Parts,
    Refer,
    Text,
    Wildcard,
    parse_option,
)

MAX_SEVERAL = 1_000_000
"""Most options times picks of one choice of several."""


class Value(NamedTuple):
    """A line of a wildcard, and where it stands."""

    text: str
    file: str
    line: int


class WildcardSource(Protocol):
    """Where the values of wildcards come from."""

    def names(self) -> Sequence[str]:
        """All wildcards, sorted."""
        ...

    def lines(self, name: str) -> Sequence[tuple[str, str, int]]:
        """(text, file, line) of every value, in order."""
        ...


class GivenWildcards:
    """Wildcards out of a mapping: name to values."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    def names(self) -> Sequence[str]:
        """All wildcards, sorted."""
        return sorted(self._values)

    def lines(self, name: str) -> Sequence[Value]:
        """Values of a wildcard, in order."""
        named = f"wildcard {name}"
        return [Value(text, named, line) for line, text in enumerate(self._values[name], 1)]


@dataclass(frozen=True, eq=False)
class Pick:
    """`low` to `high` of its options, each at most once, joined by `separator`.

    Attributes:
        options: What stands in each option.
        weights: Of the options, all above 0.
    """

    options: tuple[Bound, ...]
    weights: tuple[float, ...]
    low: int
    high: int
    separator: str

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many texts each option can say."""
        return tuple(map(size_of, self.options))

    @cached_property
    def size(self) -> int:
        """How many texts all together can say; order of the picks does not count."""
        if self.low == self.high == 1:
            return sum(self.sizes)
        ways = [1] + [0] * self.high  # ways[k]: texts of k options among those seen
        for size in self.sizes:
            for k in range(self.high, 0, -1):
                ways[k] += ways[k - 1] * size
        return sum(ways[self.low :])

    @cached_property
    def texts(self) -> NDArray[Any] | None:
        """The options' texts where none of them holds a choice or a variable."""
        if all(isinstance(part, str) for option in self.options for part in option):
            return _objects("".join(map(str, option)) for option in self.options)
        return None

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Share of the weights up to and with each option."""
        total: NDArray[np.float64] = np.cumsum(np.array(self.weights))
        shares: NDArray[np.float64] = total / total[-1]
        return shares

    @cached_property
    def grid(self) -> tuple[list[tuple[int, ...]], NDArray[np.int64], NDArray[Any] | None]:
        """Every set of options in order, its first rank, and its text where that is fixed."""
        counts, places = range(self.low, self.high + 1), range(len(self.options))
        sets = [chosen for count in counts for chosen in combinations(places, count)]
        sizes = [math.prod(self.sizes[option] for option in chosen) for chosen in sets]
        starts = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        if self.texts is None:
            return sets, starts, None
        fixed = self.texts
        return sets, starts, _objects(self.separator.join(fixed[list(chosen)]) for chosen in sets)


@dataclass(frozen=True, slots=True)
class Variable:
    """Prints the value that a slot of this name has in the row."""

    name: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a template that is chosen and becomes a column.

    Attributes:
        column: Its column.
        value: What is chosen from.
        variable: Name under which it is printed elsewhere; empty when it is printed here.
    """

    column: str
    value: Bound
    variable: str = ""


Bound = tuple["str | Pick | Variable", ...]
"""Texts, picks and variables, one after the other."""


@dataclass(frozen=True, slots=True)
class Template:
    """A bound template.

    Attributes:
        text: As it was written.
        parts: Texts, variables and slots from left to right.
    """

    text: str
    parts: tuple[str | Variable | Slot, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Its slots from left to right."""
        return tuple(part for part in self.parts if isinstance(part, Slot))

    @property
    def size(self) -> int:
        """How many rows its grid has."""
        return math.prod(size_of(slot.value) for slot in self.slots)


def size_of(bound: Bound) -> int:
    """How many texts something bound can say, repeats counted."""
    return math.prod(part.size for part in bound if isinstance(part, Pick))


class Binder:
    """Puts wildcards into templates; one that was bound once is kept for the next template."""

    def __init__(self, wildcards: WildcardSource | None) -> None:
        self._source = wildcards
        self._names: Sequence[str] = wildcards.names() if wildcards else ()
        self._kept: dict[str, Pick] = {}
        self._open: list[str] = []

    def template(self, text: str, parts: Parts) -> Template:
        """Bind a parsed template.

        Raises:
            ManifestError: A wildcard or variable is missing, or a wildcard is cyclic.
        """
        bound: list[str | Variable | Slot] = []
        columns: dict[str, None] = {}
        known: set[str] = set()
        for part in parts:
            if isinstance(part, Text):
                bound.append(part.text)
            elif isinstance(part, Assign):
                if part.name in known:
                    raise part.place.error(f"variable '{part.name}' is set twice")
                value = self._bind(part.value, known)
                known.add(part.name)
                bound.append(Slot(_column(f"var_{part.name}", columns), value, part.name))
            elif isinstance(part, Refer) and part.name in known:
                bound.append(Variable(part.name))
            elif isinstance(part, Refer):
                column = _column(f"var_{part.name}", columns)
                bound.append(Slot(column, self._refer(part, known)))
            else:
                value = self._bind((part,), known)
                label = _label(part) if isinstance(part, Wildcard) else str(len(columns) + 1)
                bound.append(Slot(_column(f"slot_{label}", columns), value))
        return Template(text, tuple(bound))

    def _bind(self, parts: Parts, known: set[str]) -> Bound:
        return tuple(chain.from_iterable(self._part(part, known) for part in parts))

    def _part(
        self, part: Text | Wildcard | Assign | Refer | Choice, known: set[str]
    ) -> tuple[str | Pick | Variable, ...]:
        if isinstance(part, Text):
            return (part.text,)
        if isinstance(part, Wildcard):
            return (self._wildcard(part),)
        if isinstance(part, Refer):
            return self._refer(part, known)
        if isinstance(part, Assign):
            reason = f"set '{part.name}' in the template itself, it is chosen once a row"
            raise part.place.error(reason)
        return (self._choice(part, known),)

    def _refer(self, part: Refer, known: set[str]) -> Bound:
        if part.name in known:
            return (Variable(part.name),)
        if part.default is not None:
            return self._bind(part.default, known)
        near = difflib.get_close_matches(part.name, sorted(known), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"set it before, ${{{part.name}={{a|b}}}}"
        raise part.place.error(f"variable '{part.name}' is not set here, {hint}")

    def _choice(self, part: Choice, known: set[str]) -> Pick:
        low, high = part.low, part.high
        options = [self._bind(option.parts, known) for option in part.options]
        weights = [option.weight for option in part.options]
        only = part.options[0].parts
        if (low, high) != (1, 1) and len(options) == len(only) == 1:
            alone = options[0][0]
            if isinstance(only[0], Wildcard) and isinstance(alone, Pick):  # several values of it
                options, weights = list(alone.options), list(alone.weights)
        high = len(options) if high == -1 else high
        if max(low, high) > len(options):
            reason = f"asks for {max(low, high)} of {len(options)} options"
            raise part.place.error(f"{reason}, each is taken at most once")
        if high > 1 and high * len(options) > MAX_SEVERAL:
            reason = f"{high} of {len(options):,} options are too many to choose, take fewer"
            raise part.place.error(reason)
        return Pick(tuple(options), tuple(weights), low, high, part.separator)

    def _wildcard(self, part: Wildcard) -> Pick:
        names = self._matching(part)
        weights: list[float] = []
        bound: list[Bound] = []
        self._demand_no_cycle(part, names)
        kept = self._kept.get(part.pattern)
        if kept is not None:
            return kept
        for name in names:
            self._open.append(name)
            for text, file, line in self._source.lines(name) if self._source else ():
                option = parse_option(text, file, line)
                weights.append(option.weight)
                bound.append(self._bind(option.parts, set()))
            self._open.pop()
        if not bound:
            raise part.place.error(f"wildcard '{part.pattern}' has no values")
        pick = Pick(tuple(bound), tuple(weights), 1, 1, "")
        self._kept[part.pattern] = pick
        return pick

    def _demand_no_cycle(self, part: Wildcard, names: Sequence[str]) -> None:
        for name in names:
            if name in self._open:
                way = " -> ".join([*self._open[self._open.index(name) :], name])
                raise part.place.error(f"wildcard '{name}' chooses from itself: {way}")
        if len(self._open) >= MAX_DEPTH:
            raise part.place.error(f"wildcards name one another more than {MAX_DEPTH} deep")

    def _matching(self, part: Wildcard) -> list[str]:
        if self._source is None:
            reason = f"wildcard '{part.pattern}' needs a folder of wildcard files (--wildcards DIR)"
            raise part.place.error(reason)
        pattern = re.compile(_glob(part.pattern))
        names = [name for name in self._names if pattern.fullmatch(name)]
        if not names:
            near = difflib.get_close_matches(part.pattern, self._names, n=3, cutoff=0.4)
            there = f"nearest are {', '.join(near)}" if near else _some(self._names)
            raise part.place.error(f"no wildcard '{part.pattern}', {there}")
        return names


def _objects(texts: Iterable[str]) -> NDArray[Any]:
    given = list(texts)
    array = np.empty(len(given), dtype=object)
    array[:] = given
    return array


def _some(names: Sequence[str]) -> str:
    return f"there are {', '.join(names[:8])}" if names else "the folder holds none"


def _glob(pattern: str) -> str:
    """A regular expression: `**` is anything, `*` and `?` stay inside a folder."""
    signs = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*|\*|\?)", pattern)
    return "".join(signs.get(piece, re.escape(piece)) for piece in pieces)


def _label(part: Wildcard) -> str:
    return re.sub(r"\W+", "_", part.pattern).strip("_") or "any"


def _column(wanted: str, taken: dict[str, None]) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken[name] = None
    return name
