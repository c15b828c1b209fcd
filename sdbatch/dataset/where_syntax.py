"""The language of `--where` and `--filter`: a text taken apart into a tree of conditions.

    condition := alternative ("or" alternative)*         alternative := term ("and" term)*
    term      := "not" term | "(" condition ")" | value (test)?
    test      := ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
               | "is" ["not"] "null" | ["not"] "like" text | ["not"] "in" "(" literal, ... ")"
    value     := column | "any column" | number | 'text' | true | false

It is SQL's, words in either case; a quote within quotes is written twice. Nothing is known here
of columns and their types: `where.py` gives the tree its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sdbatch.errors import InputError

COMPARISONS = {sign: sign for sign in ("==", "!=", "<", "<=", ">", ">=")} | {"=": "==", "<>": "!="}
MAX_DEPTH = 64
"""Brackets and `not`s within one another."""
MAX_CONDITIONS = 1000
MAX_DIGITS = 100

_TOKEN = re.compile(
    r"""
    \s*+(?:
      (?P<number>[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+(?![\w.]))
    | '(?P<text>(?:[^']|'')*+)'
    | "(?P<quoted>(?:[^"]|"")++)"
    | (?P<word>[^\W\d]\w*+)
    | (?P<mark>==|!=|<>|<=|>=|[=<>(),])
    )""",
    re.VERBOSE,
)
_TRUTH = {"true": True, "false": False}
_WORDS = frozenset(["and", "or", "not", "in", "is", "null", "like", "true", "false"])


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the text; whole numbers are `int`, others `float`."""

    value: int | float | str | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two values and one of `==`, `!=`, `<`, `<=`, `>`, `>=`."""

    sign: str
    left: Column | Literal
    right: Column | Literal


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a column's value is one of these."""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Whether a column's text matches a pattern of `%` (any text) and `_` (any character)."""

    column: Column
    pattern: str


@dataclass(frozen=True, slots=True)
class Absence:
    """Whether a column has no value."""

    column: Column


@dataclass(frozen=True, slots=True)
class Negation:
    """The opposite of a condition."""

    of: Condition


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions of which all (`and`) or at least one (`or`) must hold."""

    word: str
    parts: tuple[Condition, ...]


Condition = Column | Literal | Comparison | Membership | Likeness | Absence | Negation | Junction


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Condition:
    """Take a condition apart.

    Raises:
        InputError: It is none; the message says where, and what would be right.
    """
    return _Parser(text).whole()


def alternatives(text: str) -> list[str]:
    """The parts of a condition that `or` joins at its outermost level; all of it if there is none.

    Raises:
        InputError: It is no condition.
    """
    return _Parser(text).alternatives()


def fault(text: str, reason: str) -> InputError:
    """The error for a condition that cannot be used."""
    shown = text if len(text) <= 120 else f"{text[:117]}..."
    return InputError(f"condition {shown!r}: {reason}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._conditions = 0

    def whole(self) -> Condition:
        condition = self._condition()
        if self._next().kind != "end":
            raise self._unexpected("and, or, or the end")
        return condition

    def alternatives(self) -> list[str]:
        parts = []
        while True:
            start = self._next().start
            self._junction("and", self._term)
            parts.append(self._text[start : self._tokens[self._at - 1].end])
            if not self._take_word("or"):
                break
        if self._next().kind != "end":
            raise self._unexpected("and, or, or the end")
        return parts

    def _condition(self) -> Condition:
        return self._junction("or", lambda: self._junction("and", self._term))

    def _junction(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._take_word(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Junction(word, tuple(parts))

    def _term(self) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise fault(self._text, f"more than {MAX_CONDITIONS:,} conditions, use 'in (...)'")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise fault(self._text, f"nested deeper than {MAX_DEPTH} brackets")
        try:
            if self._take_word("not"):
                return Negation(self._term())
            if self._take_mark("("):
                inner = self._condition()
                self._demand_mark(")")
                return inner
            return self._test(self._value())
        finally:
            self._depth -= 1

    def _test(self, value: Column | Literal) -> Condition:
        token = self._next()
        if token.kind == "mark" and token.text in COMPARISONS:
            self._at += 1
            return Comparison(COMPARISONS[token.text], value, self._value())
        if not isinstance(value, Column):
            return value
        if self._take_word("is"):
            negated = self._take_word("not")
            if not self._take_word("null"):
                raise self._unexpected("null")
            return _unless(negated, Absence(value))
        negated = self._take_word("not")
        if self._take_word("like"):
            return _unless(negated, Likeness(value, self._pattern()))
        if self._take_word("in"):
            return _unless(negated, Membership(value, self._members()))
        if negated:
            raise self._unexpected("like or in")
        return value

    def _pattern(self) -> str:
        token = self._next()
        if token.kind != "text":
            raise self._unexpected("a pattern in single quotes, such as '%cat%'")
        self._at += 1
        return token.text

    def _members(self) -> tuple[Literal, ...]:
        self._demand_mark("(")
        values = [self._literal()]
        while self._take_mark(","):
            values.append(self._literal())
        self._demand_mark(")")
        return tuple(values)

    def _literal(self) -> Literal:
        value = self._value()
        if isinstance(value, Column):
            self._at -= 1
            raise self._unexpected("a number or 'text' in single quotes")
        return value

    def _value(self) -> Column | Literal:
        token = self._next()
        lower = token.text.lower()
        if token.kind == "null":
            raise fault(self._text, "nothing equals null, write 'is null' or 'is not null'")
        if token.kind in ("end", "mark") or (token.kind == "keyword" and lower not in _TRUTH):
            raise self._unexpected("a column, a number or 'text'")
        self._at += 1
        if token.kind == "keyword":
            return Literal(_TRUTH[lower])
        if token.kind == "number":
            return Literal(self._number(token.text))
        return Literal(token.text) if token.kind == "text" else Column(token.text)

    def _number(self, digits: str) -> int | float:
        if len(digits) > MAX_DIGITS:
            raise fault(self._text, f"'{digits[:12]}...' has more than {MAX_DIGITS} digits")
        return float(digits) if set(digits) & set(".eE") else int(digits)

    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take_word(self, word: str) -> bool:
        token = self._next()
        taken = token.kind in ("keyword", "null") and token.text.lower() == word
        self._at += taken
        return taken

    def _take_mark(self, mark: str) -> bool:
        token = self._next()
        taken = token.kind == "mark" and token.text == mark
        self._at += taken
        return taken

    def _demand_mark(self, mark: str) -> None:
        if not self._take_mark(mark):
            raise self._unexpected(f"'{mark}'")

    def _unexpected(self, wanted: str) -> InputError:
        token = self._next()
        if token.kind == "end":
            return fault(self._text, f"ends where {wanted} should follow")
        where = f"at character {token.start + 1}, {token.text[:40]!r}"
        return fault(self._text, f"{where}: {wanted} should stand here")


def _unless(negated: bool, condition: Condition) -> Condition:
    return Negation(condition) if negated else condition


def _tokens(text: str) -> Sequence[_Token]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text, at)
        found.append(_token(match))
        at = match.end()
    return [*found, _Token("end", "", end, end)]


def _token(match: re.Match[str]) -> _Token:
    kind = str(match.lastgroup)
    value = match[kind]
    start, end = match.start(kind), match.end()
    if kind == "text":
        return _Token(kind, value.replace("''", "'"), start - 1, end)
    if kind == "quoted":
        return _Token(kind, value.replace('""', '"'), start - 1, end)
    if kind == "word" and value.lower() in _WORDS:
        kind = "null" if value.lower() == "null" else "keyword"
    return _Token(kind, value, start, end)


def _unreadable(text: str, at: int) -> InputError:
    rest = text[at:].lstrip()
    start = len(text) - len(rest)
    if rest[0] in "'\"":
        return fault(text, f"the {rest[0]} at character {start + 1} is never closed")
    return fault(
        text,
        f"at character {start + 1}, {rest[:12]!r}: this means nothing here, conditions look like "
        "clip_score > 0.25 and not is_blank",
    )
