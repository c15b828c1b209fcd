r"""The language of prompt templates: a text becomes a tree, or an error with its place.

    {a|b}  {3::a|1::b}      one of them, by weight
    {2$$a|b|c}              two of them; {1-3$$ and $$a|b|c} one to three, joined by ' and '
    {1..10} {0.5..1.0..0.1} numbers, both ends included
    __animals__ __fx/*__    a line of a wildcard file; * stays in a folder, ** does not
    ${x={a|b}} ... ${x}     chosen once a row, printed where it is named; ${x:none} otherwise
    \{ \} \| \$ \_ \: \\    the character itself; any other backslash stays

Everything may stand inside everything, but a variable is set outside all braces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from sdbatch.errors import ManifestError

MAX_DEPTH = 64
MAX_NUMBERS = 100_000
"""Most numbers that one range may hold."""
SEPARATOR = ", "
"""Between several chosen options when the template names no other."""
_NUMBER = r"[+-]?\d{1,18}(?:\.\d{1,18})?"
_RANGE = re.compile(rf"\{{\s*({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?\s*\}}", re.ASCII)
_COUNT = re.compile(r"(?:(\d{1,6})(-(\d{1,6})?)?|-(\d{1,6}))\$\$", re.ASCII)
_SEPARATOR = re.compile(r"((?:\\.|[^|{}$\\])*)\$\$", re.DOTALL)
_WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)::", re.ASCII)
_WILDCARD = re.compile(r"__([\w\-./*?]+?)__(?!_)")
_NAME = re.compile(r"\$\{\s*([A-Za-z_]\w*)\s*([=:}])(!?)", re.ASCII)
_ESCAPED = frozenset("{}|$_:\\")
_PLAIN = re.compile(r"[^\\{}|$_]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from 1."""

    name: str
    line: int
    column: int

    def error(self, reason: str) -> ManifestError:
        """An error that points here."""
        where = f"{self.name}, line {self.line}, column {self.column}"
        return ManifestError(where, -1, "", "", reason)


@dataclass(frozen=True, slots=True)
class Text:
    """Text that stands as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A name or pattern of wildcard files."""

    pattern: str
    place: Place


@dataclass(frozen=True, slots=True)
class Assign:
    """A variable that is chosen here and printed elsewhere."""

    name: str
    value: Parts
    place: Place


@dataclass(frozen=True, slots=True)
class Refer:
    """A variable that is printed; `default` stands in where none was set."""

    name: str
    default: Parts | None
    place: Place


@dataclass(frozen=True, slots=True)
class Option:
    """One of several, taken in proportion to its weight."""

    weight: float
    parts: Parts


@dataclass(frozen=True, slots=True)
class Choice:
    """`low` to `high` of the options, each at most once, joined by `separator`."""

    options: tuple[Option, ...]
    low: int
    high: int
    separator: str
    place: Place


Part = Text | Wildcard | Assign | Refer | Choice
Parts = tuple[Part, ...]


def parse(text: str, name: str = "template", line: int = 1) -> Parts:
    """Read a template.

    Args:
        text: The template.
        name: What messages call it.
        line: Line of `name` that it begins on.

    Raises:
        ManifestError: It is malformed, with line and column.
    """
    reader = _Reader(text, name, line)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise reader.place(error.start).error("is not UTF-8 text, re-encode it") from error
    return reader.parts(0, top=True)


def parse_option(text: str, name: str, line: int) -> Option:
    """Read a line of a wildcard file, which may begin with a weight (`3::a red fox`).

    Raises:
        ManifestError: It is malformed, with line and column.
    """
    parse_weight = _Reader(text, name, line)
    weight = parse_weight.weight()
    parts = parse(" " * parse_weight.at + text[parse_weight.at :], name, line)
    if parse_weight.at and isinstance(parts[0], Text):  # the blanks only kept the columns true
        parts = (Text(parts[0].text[parse_weight.at :]), *parts[1:])
    return Option(weight, parts)


class _Reader:
    """A position in a template that moves from left to right."""

    def __init__(self, text: str, name: str, line: int) -> None:
        self.text, self.name, self.line = text, name, line
        self.at = 0

    def place(self, at: int) -> Place:
        before = self.text[:at]
        column = at - (before.rfind("\n") + 1) + 1
        return Place(self.name, self.line + before.count("\n"), column)

    def fail(self, reason: str, at: int | None = None) -> ManifestError:
        return self.place(self.at if at is None else at).error(reason)

    def parts(self, depth: int, *, top: bool = False) -> Parts:
        """Parts up to the end of the text (`top`), or to the `|` or `}` that ends them."""
        if depth > MAX_DEPTH:
            raise self.fail(f"braces stand in one another more than {MAX_DEPTH} deep")
        found: list[Part] = []
        words: list[str] = []
        while self.at < len(self.text):
            if not top and self.text[self.at] in "|}":
                break
            part = self._part(depth, top=top)
            if isinstance(part, str):
                words.append(part)
                continue
            if words:
                found.append(Text("".join(words)))
                words = []
            found.append(part)
        if words:
            found.append(Text("".join(words)))
        return tuple(found)

    def _part(self, depth: int, *, top: bool) -> Part | str:
        text, start = self.text, self.at
        plain = _PLAIN.match(text, start)
        if plain:
            self.at = plain.end()
            return plain.group()
        sign = text[start]
        if sign == "\\":
            return self._escape()
        if sign == "{":
            return self._braces(depth)
        if sign == "}":
            raise self.fail("'}' closes nothing, write \\} for the character itself")
        if text.startswith("${", start):
            return self._variable(depth, top=top)
        if text.startswith("$$", start) and not top:
            raise self.fail("'$$' needs a number before it, as in {2$$a|b|c}, or \\$\\$")
        if text.startswith("__", start):
            return self._wildcard()
        self.at += 1
        return sign

    def _escape(self) -> str:
        after = self.text[self.at + 1 : self.at + 2]
        self.at += 2 if after in _ESCAPED and after else 1
        return after if after in _ESCAPED and after else "\\"

    def _wildcard(self) -> Wildcard:
        match = _WILDCARD.match(self.text, self.at)
        if match is None:
            reason = "'__' begins no wildcard such as __animals__, write \\_\\_ for the characters"
            raise self.fail(reason)
        place = self.place(self.at)
        self.at = match.end()
        return Wildcard(match.group(1), place)

    def _variable(self, depth: int, *, top: bool) -> Assign | Refer:
        start, place = self.at, self.place(self.at)
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail("write ${name={a|b}} to set a variable and ${name} to print it, or \\$")
        name, sign = match.group(1), match.group(2)
        self.at = match.end() if sign == "=" else match.end(2)
        if sign == "}":
            return Refer(name, None, place)
        if sign == "=" and not top:
            raise self.fail(f"set '{name}' outside all braces, it is chosen once a row", start)
        value = self.parts(depth + 1)
        if self.at >= len(self.text):
            raise self.fail("'${' is never closed", start)
        if self.text[self.at] == "|":
            raise self.fail(f"a choice needs braces of its own: ${{{name}={{a|b}}}}")
        self.at += 1
        return Assign(name, value, place) if sign == "=" else Refer(name, value, place)

    def _braces(self, depth: int) -> Choice:
        start, place = self.at, self.place(self.at)
        numbers = _RANGE.match(self.text, self.at)
        if numbers:
            self.at = numbers.end()
            first, last, step = (numbers.group(1), numbers.group(2), numbers.group(3))
            texts = _numbers(first, last, step, place)
            return Choice(tuple(Option(1.0, (Text(each),)) for each in texts), 1, 1, "", place)
        if self.text.startswith("{%", self.at):
            raise self.fail("Jinja is not read here, write \\{ for the character itself")
        self.at += 1
        low, high, separator = self._count()
        options = [self._option(depth, start)]
        while self.text[self.at] == "|":
            self.at += 1
            options.append(self._option(depth, start))
        self.at += 1
        if len(options) == 1 and not options[0].parts:
            raise place.error("empty braces, write \\{\\} for the characters themselves")
        return Choice(tuple(options), low, high, separator, place)

    def _option(self, depth: int, start: int) -> Option:
        weight = self.weight()
        option = Option(weight, self.parts(depth + 1))
        if self.at >= len(self.text):
            raise self.fail("'{' is never closed, write \\{ for the character itself", start)
        return option

    def weight(self) -> float:
        """The weight that stands here, or 1."""
        match = _WEIGHT.match(self.text, self.at)
        if match is None:
            return 1.0
        weight = float(match.group(1))
        if not weight:
            raise self.fail("a weight must be above 0, leave the option out instead")
        self.at = match.end()
        return weight

    def _count(self) -> tuple[int, int, str]:
        """How many options are taken (-1: all of them), and what joins them."""
        match = _COUNT.match(self.text, self.at)
        if match is None:
            return 1, 1, ""
        first, dash, last, most = match.groups()
        low = int(first or 0)
        high = int(most or last) if most or last else (-1 if dash else low)
        if high != -1 and low > high:
            raise self.fail(f"{low}-{high}: the first number must not be above the second")
        self.at = match.end()
        separator = _SEPARATOR.match(self.text, self.at)
        if separator is None:
            return low, high, SEPARATOR
        self.at = separator.end()
        return low, high, re.sub(r"\\([{}|$_:\\])", r"\1", separator.group(1))


def _numbers(first: str, last: str, step: str | None, place: Place) -> list[str]:
    """All numbers of a range, written with the decimals that its ends and step have."""
    low, high = Decimal(first), Decimal(last)
    given = [text for text in (first, last, step) if text]
    decimals = max(len(text.partition(".")[2]) for text in given)
    by = abs(Decimal(step)) if step else Decimal(1).scaleb(-decimals)
    if not by:
        raise place.error("the step of a range must not be 0")
    count = int(abs(high - low) // by) + 1
    if count > MAX_NUMBERS:
        raise place.error(f"the range holds {count:,} numbers, at most {MAX_NUMBERS:,} are allowed")
    by = by if high >= low else -by
    return [f"{low + by * place:.{decimals}f}" for place in range(count)]
