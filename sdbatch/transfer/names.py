"""File names from the columns of a row, safe on every file system.

Whatever a manifest's authors wrote, a name is one part of a path: no separators, control
characters, characters that turn the direction of text, names that Windows reserves, leading
dots or trailing dots and spaces; in Unicode form C and at most 120 bytes. Two names that a
file system may take for one (case, composed characters) are told apart by a number, in the
order in which the rows come; so are the folders of two values.
"""

from __future__ import annotations

import re
import sqlite3
import string
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sdbatch.errors import InputError
from sdbatch.job import nearest

MAX_BYTES = 120
"""Of a file's name with its ending: half of what file systems take, and room for `.tmp`."""

FOLDER_ENTRIES = 4500
"""Pictures in one folder, after which a numbered one inside it goes on: the Hub and many
tools stop at 10,000 entries, and a picture may have a text beside it."""

_ENDING_BYTES = 8  # `.` and the longest ending of a picture
_NUMBER_BYTES = 10
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_BAD_KINDS = frozenset(["Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"])
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|\s|$)", re.IGNORECASE
)


def safe_name(text: str, max_bytes: int = MAX_BYTES - _ENDING_BYTES - _NUMBER_BYTES) -> str:
    """Text as one part of a path that every file system takes; never empty.

    Args:
        text: Anything.
        max_bytes: Longest result in UTF-8; it is cut between characters.
    """
    kept = "".join(map(_safe_character, unicodedata.normalize("NFC", text)))
    kept = _trimmed(_cut(_trimmed(" ".join(_FORBIDDEN.sub("_", kept).split())), max_bytes))
    reserved = _RESERVED.match(kept)
    if reserved:
        kept = _trimmed(_cut(f"{reserved[0]}_{kept[reserved.end() :]}", max_bytes))
    return kept or "_"


def folded(name: str) -> str:
    """What two names share that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


@dataclass(frozen=True, slots=True)
class Template:
    """A name with columns in braces, such as `{id}_{seed:06d}`.

    Attributes:
        text: As it was given.
        sources: Name in braces to the column that is read for it.
    """

    text: str
    sources: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads."""
        return tuple(dict.fromkeys(self.sources.values()))

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> Template:
        """Read a template.

        Args:
            text: Literal text and `{column}` or `{column:format}`.
            known: Columns that there are.

        Raises:
            InputError: It holds a folder, names no column or one that there is not, or reaches
                into a value.
        """
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InputError(
                f"--name {text!r}: {error}, write such as '{{id}}_{{seed}}'"
            ) from error
        names = [name for _, name, _, _ in parts if name is not None]
        if not names:
            raise InputError(f"--name {text!r}: holds no column, write such as '{{id}}_{{seed}}'")
        if any("/" in literal or "\\" in literal for literal, *_ in parts):
            raise InputError(f"--name {text!r}: holds a folder, folders come from --folder-by")
        for name, (_, _, form, conversion) in zip(
            names, (part for part in parts if part[1] is not None), strict=True
        ):
            if stored_name(name, known) not in known:
                raise InputError(f"--name {text!r}: no column '{name}'{nearest(name, list(known))}")
            if conversion or "{" in (form or ""):
                raise InputError(f"--name {text!r}: only {{column}} or {{column:format}}")
        return cls(text, {name: stored_name(name, known) for name in names})

    def fill(self, row: Mapping[str, Any]) -> str:
        """The safe name of a row, without ending and number.

        Raises:
            InputError: A format does not fit its value.
        """
        values = {name: _plain(row[column]) for name, column in self.sources.items()}
        try:
            return safe_name(_Columns().vformat(self.text, (), values))
        except ValueError as error:
            raise InputError(f"--name {self.text!r}: {error}") from error


def stored_name(column: str, known: Collection[str]) -> str:
    """What a dataset calls a column of its manifest: `id` stands in `row_id`."""
    return "row_id" if column == "id" and "id" not in known else column


class TakenNames:
    """Names that are given away, in a database on local disk: memory does not grow with them.

    Args:
        database: A scratch database; two tables are made in it.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(
            "create table if not exists taken (folder text, name text, next integer, "
            "primary key (folder, name)) without rowid"
        )
        database.execute(
            "create table if not exists filled (folder text primary key, entries integer)"
        )

    def take(self, folder: str, name: str) -> str:
        """Give a name away: itself, or with the first free number from 2 behind it."""
        key = (folded(folder), folded(name))
        held = self._database.execute(
            "select next from taken where folder = ? and name = ?", key
        ).fetchone()
        if held is None:
            self._mark(key)
            return name
        number = max(int(held[0]), 2)
        while not self._mark((key[0], folded(f"{name}-{number}"))):
            number += 1
        self._database.execute(
            "update taken set next = ? where folder = ? and name = ?", (number + 1, *key)
        )
        return f"{name}-{number}"

    def hold(self, folder: str, name: str) -> None:
        """Count a name that was given away in an earlier call."""
        self._mark((folded(folder), folded(name)))

    def subfolder(self, folder: str) -> str:
        """The folder's next place: empty in itself, then `2`, `3`, ... when it is full."""
        self._database.execute(
            "insert into filled values (?, 1) on conflict (folder) do update set "
            "entries = entries + 1",
            (folded(folder),),
        )
        (entries,) = self._database.execute(
            "select entries from filled where folder = ?", (folded(folder),)
        ).fetchone()
        number = (int(entries) - 1) // FOLDER_ENTRIES + 1
        return "" if number == 1 else str(number)

    def _mark(self, key: tuple[str, str]) -> bool:
        done = self._database.execute("insert or ignore into taken values (?, ?, 0)", key)
        return done.rowcount == 1


class FolderNames:
    """Folders of values: each value has its own, whatever a name must leave out of it.

    Two values are told apart as two file names are; the same value has the same folder in every
    split, and in every call that is told what stands.

    Args:
        database: A scratch database; a table is made in it.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(
            "create table if not exists folders (value text primary key, name text, folded text)"
        )
        database.execute("create index if not exists folders_folded on folders (folded)")

    def of(self, value: str | None) -> str:
        """The folder of a value; None is no value at all, which is not the text `none`."""
        held = self._database.execute(
            "select name from folders where value = ?", (_known_as(value),)
        ).fetchone()
        if held is not None:
            return str(held[0])
        plain = name = safe_name("none" if value is None else value)
        number = 1
        while self._database.execute(
            "select 1 from folders where folded = ?", (folded(name),)
        ).fetchone():
            number += 1
            name = f"{plain}-{number}"
        self.hold(value, name)
        return name

    def hold(self, value: str | None, name: str) -> None:
        """Count a folder that was given to a value in an earlier call."""
        self._database.execute(
            "insert or ignore into folders values (?, ?, ?)",
            (_known_as(value), name, folded(name)),
        )


def _known_as(value: str | None) -> str:
    return "" if value is None else f"={value}"


def _safe_character(character: str) -> str:
    if character.isspace():
        return " "
    return "_" if unicodedata.category(character) in _BAD_KINDS else character


def _trimmed(name: str) -> str:
    """Without what hides a name or what Windows drops; two underscores would hide it too."""
    name = name.strip(" ").lstrip(".").rstrip(". ").lstrip(" ")
    return re.sub(r"^_{2,}", "_", name)


def _cut(name: str, max_bytes: int) -> str:
    return name.encode("utf-8")[:max_bytes].decode("utf-8", "ignore")


class _Columns(string.Formatter):
    """Takes all of a name in braces for the column: those of a manifest may hold dots."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:  # noqa: ARG002
        return kwargs[field_name], field_name


class _Text(str):
    """A value whose parts are out of reach, and which takes formats of its own kind alone."""

    __slots__ = ()


def _plain(value: Any) -> Any:
    if value is None:
        return _Text("none")
    if isinstance(value, bool):
        return _Text("true" if value else "false")
    return value if isinstance(value, int | float) else _Text(value)
