"""Conditions over a dataset's columns, `clip_score > 0.25 and not is_blank`, for pyarrow.

The language is in `where_syntax.py`. A condition without an answer (its column is null) is
neither true nor false, as in SQL: `not` leaves it so, and a row for which the whole has no
answer is not chosen. A number is compared in its column's own precision, so that
`guidance_scale = 7.1` finds the float32 that was written as 7.1.
"""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from sdbatch.dataset import where_syntax as ws
from sdbatch.dataset.schema import class_names

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NO_ANSWER = pa.scalar(None, pa.bool_())
_KINDS = {
    "number": "a number",
    "text": "'text' in single quotes",
    "truth": "true or false",
    "time": "a time such as '2026-11-22 18:00' in single quotes",
}


def parse_where(text: str, schema: pa.Schema) -> pc.Expression:
    """A condition as an expression for `pyarrow.compute`, `dataset` and `parquet`.

    Args:
        text: Such as `scheduler in ('DDIM', 'Euler') and (nsfw is null or not nsfw)`.
        schema: Columns that it may name, with their types.

    Raises:
        InputError: It cannot be read, names a column that there is not, or compares what
            cannot be compared.
    """
    return _Compiler(text, schema).expression(ws.parse(text))


def columns(text: str) -> set[str]:
    """Names of the columns that a condition reads.

    Raises:
        InputError: It cannot be read.
    """
    return set(_names(ws.parse(text)))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, ws.Column):
        yield node.name
    elif isinstance(node, ws.Comparison):
        yield from _names(node.left)
        yield from _names(node.right)
    elif isinstance(node, ws.Membership | ws.Likeness | ws.Absence):
        yield node.column.name
    elif isinstance(node, ws.Negation):
        yield from _names(node.of)
    elif isinstance(node, ws.Junction):
        for part in node.parts:
            yield from _names(part)


class _Compiler:
    def __init__(self, text: str, schema: pa.Schema) -> None:
        self._text, self._schema = text, schema

    def expression(self, node: ws.Condition) -> pc.Expression:
        if isinstance(node, ws.Junction):
            combine = operator.and_ if node.word == "and" else operator.or_
            return functools.reduce(combine, map(self.expression, node.parts))
        if isinstance(node, ws.Negation):
            return ~self.expression(node.of)
        if isinstance(node, ws.Comparison):
            return self._comparison(node)
        if isinstance(node, ws.Membership):
            return self._membership(node)
        if isinstance(node, ws.Likeness):
            return self._likeness(node)
        if isinstance(node, ws.Absence):
            self._type(node.column)
            return pc.field(node.column.name).is_null()
        return self._bare(node)

    def _bare(self, node: ws.Column | ws.Literal) -> pc.Expression:
        if isinstance(node, ws.Literal):
            if not isinstance(node.value, bool):
                raise ws.fault(self._text, f"{node.value!r} alone is no condition")
            return pc.scalar(node.value)
        kind = self._type(node)
        if not types.is_boolean(kind):
            raise ws.fault(
                self._text,
                f"column '{node.name}' ({kind}) alone is no condition, compare it with something",
            )
        return pc.field(node.name)

    def _comparison(self, node: ws.Comparison) -> pc.Expression:
        left, right, sign = node.left, node.right, node.sign
        if isinstance(left, ws.Literal) and isinstance(right, ws.Literal):
            raise ws.fault(self._text, f"{left.value!r} {sign} {right.value!r} names no column")
        if isinstance(left, ws.Column) and isinstance(right, ws.Column):
            return _COMPARE[sign](*self._pair(left, right))
        compare = _COMPARE[sign]
        if isinstance(left, ws.Column):
            assert isinstance(right, ws.Literal)
            return compare(*self._with_literal(left, right))
        assert isinstance(right, ws.Column)
        column, value = self._with_literal(right, left)
        return compare(value, column)

    def _pair(self, left: ws.Column, right: ws.Column) -> tuple[pc.Expression, ...]:
        kinds = self._kind(left), self._kind(right)
        if kinds[0] != kinds[1]:
            raise ws.fault(
                self._text,
                f"column '{left.name}' ({self._type(left)}) and column '{right.name}' "
                f"({self._type(right)}) cannot be compared",
            )
        fields = pc.field(left.name), pc.field(right.name)
        stored = self._type(left), self._type(right)
        if kinds[0] == "number" and not all(map(types.is_signed_integer, stored)):
            return tuple(field.cast(pa.float64(), safe=False) for field in fields)
        return fields

    def _with_literal(
        self, column: ws.Column, literal: ws.Literal
    ) -> tuple[pc.Expression, pc.Expression]:
        """The column, and the value as the column would hold it."""
        kind, stored = self._kind(column), self._type(column)
        literal = self._numbered(column, literal)
        self._demand_same(column, kind, literal)
        value = literal.value
        if kind == "time":
            return pc.field(column.name), pc.scalar(self._time(str(value), stored))
        if kind != "number":
            return pc.field(column.name), pc.scalar(value)
        assert not isinstance(value, str)
        if types.is_float16(stored):
            return pc.field(column.name).cast(pa.float32()), pc.scalar(
                pa.scalar(value, pa.float32())
            )
        if types.is_floating(stored) or (isinstance(value, int) and _fits(value, stored)):
            return pc.field(column.name), pc.scalar(pa.scalar(value, stored))
        # 20.5 steps, or more than the column can hold: compared as real numbers.
        return pc.field(column.name).cast(pa.float64(), safe=False), pc.scalar(float(value))

    def _membership(self, node: ws.Membership) -> pc.Expression:
        same = [_COMPARE["=="](*self._with_literal(node.column, each)) for each in node.values]
        kind, stored = self._kind(node.column), self._type(node.column)
        if kind == "time" or len(same) == 1:
            return functools.reduce(operator.or_, same)
        plain = [self._numbered(node.column, literal).value for literal in node.values]
        wanted = pa.float32() if types.is_float16(stored) else stored
        if kind == "number" and not types.is_floating(stored):
            whole = all(isinstance(each, int) and _fits(each, stored) for each in plain)
            wanted = stored if whole else pa.float64()
        field = pc.field(node.column.name)
        chosen = field if wanted == stored else field.cast(wanted, safe=False)
        found = chosen.isin(pa.array(plain, wanted))
        # Arrow says that a null is in no list; here it has no answer.
        return pc.if_else(field.is_null(), _NO_ANSWER, found)

    def _likeness(self, node: ws.Likeness) -> pc.Expression:
        if self._kind(node.column) != "text":
            kind = self._type(node.column)
            raise ws.fault(
                self._text, f"column '{node.column.name}' ({kind}) is no text for 'like'"
            )
        return pc.match_like(pc.field(node.column.name), node.pattern)

    def _numbered(self, column: ws.Column, literal: ws.Literal) -> ws.Literal:
        """A class by its name is the number that the column holds for it."""
        classes = class_names(self._schema.field(column.name))
        if not classes or not isinstance(literal.value, str):
            return literal
        if literal.value not in classes:
            known = ", ".join(map(repr, classes[:10]))
            raise ws.fault(
                self._text, f"{literal.value[:40]!r} is no class of '{column.name}', {known} are"
            )
        return ws.Literal(classes.index(literal.value))

    def _demand_same(self, column: ws.Column, kind: str, literal: ws.Literal) -> None:
        value = literal.value
        given = (
            "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        )
        if given == kind or (given == "text" and kind == "time"):
            return
        shown = repr(value[:40]) if isinstance(value, str) else str(value).lower()
        raise ws.fault(
            self._text,
            f"column '{column.name}' ({self._type(column)}) is compared with {shown}: "
            f"give it {_KINDS[kind]}",
        )

    def _time(self, text: str, stored: pa.DataType) -> pa.Scalar:
        try:
            if types.is_timestamp(stored) and stored.tz:
                return pa.scalar(_moment(text), stored)
            return pa.scalar(text).cast(stored)
        except (ValueError, pa.ArrowException) as error:
            raise ws.fault(
                self._text, f"{text[:40]!r} is no {stored}, give {_KINDS['time']}"
            ) from error

    def _kind(self, column: ws.Column) -> str:
        stored = self._type(column)
        if types.is_boolean(stored):
            return "truth"
        if types.is_integer(stored) or types.is_floating(stored) or types.is_decimal(stored):
            return "number"
        if types.is_string(stored) or types.is_large_string(stored):
            return "text"
        if types.is_timestamp(stored) or types.is_date(stored) or types.is_time(stored):
            return "time"
        raise ws.fault(
            self._text,
            f"column '{column.name}' is of type {stored}, which knows only 'is null' and "
            "'is not null'",
        )

    def _type(self, column: ws.Column) -> pa.DataType:
        names = self._schema.names
        if names.count(column.name) == 1:
            return self._schema.field(column.name).type
        raise ws.fault(self._text, unknown_column(column.name, names))


def _fits(value: int, stored: pa.DataType) -> bool:
    if not types.is_integer(stored):
        return False
    signed = types.is_signed_integer(stored)
    bits = stored.bit_width - signed
    return bool(-(signed << bits) <= value < 1 << bits)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unknown_column(name: str, names: list[str]) -> str:
    """What to say of a column that is not there: with the nearest one that is."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(names)[:20])}"
    return f"there is no column {name[:80]!r}, {hint}"
