"""Wildcard files: folders of texts that templates choose from.

A `.txt` file is a wildcard of its name, a line a value; blank lines and lines that begin
with `#` are passed over. A `.yaml` or `.json` file that holds a list is one likewise; one
that holds a mapping gives a wildcard for every list in it, named by its keys. Folders are
part of the name: `animals/dogs.txt` is `__animals/dogs__`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sdbatch.errors import ManifestError

ENDINGS = (".txt", ".yaml", ".yml", ".json")
MAX_BYTES = 64 << 20
MAX_VALUES = 1_000_000
MAX_DEPTH = 32


class Line(NamedTuple):
    """A value and where it stands: file, and line from 1."""

    text: str
    file: str
    line: int


class WildcardFolder:
    """The wildcards under a folder; a file is read when it is first asked for."""

    def __init__(self, folder: str | Path) -> None:
        """List the folder.

        Raises:
            ManifestError: It is no folder, or two files give a wildcard of one name.
        """
        self._root = Path(folder)
        if not self._root.is_dir():
            raise ManifestError(str(folder), -1, "", "", "is no folder of wildcard files")
        self._texts: dict[str, Path] = {}
        self._values: dict[str, list[Line]] = {}
        origins: dict[str, Path] = {}
        for path in self._files():
            for name in self._index(path):
                if name in origins:
                    reason = f"wildcard '{name}' stands in {origins[name]} too, rename one"
                    raise ManifestError(str(path), -1, "", "", reason)
                origins[name] = path

    def names(self) -> Sequence[str]:
        """All wildcards, sorted."""
        return sorted({*self._texts, *self._values})

    def lines(self, name: str) -> Sequence[Line]:
        """Values of a wildcard, in the order of its file.

        Raises:
            ManifestError: The file cannot be read or is no UTF-8 text.
        """
        if name not in self._values:
            path = self._texts[name]
            text = _text(path).replace("\r\n", "\n").replace("\r", "\n")
            rows = enumerate(text.split("\n"), 1)
            self._values[name] = [
                Line(row.strip(), str(path), number)
                for number, row in rows
                if row.strip() and not row.lstrip().startswith("#")
            ]
        return self._values[name]

    def _files(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            for name in sorted(files):
                if name.lower().endswith(ENDINGS):
                    yield Path(folder, name)

    def _index(self, path: Path) -> list[str]:
        """Names that a file gives; a structured one is read at once, to learn them."""
        stem = path.relative_to(self._root).with_suffix("")
        if path.suffix.lower() == ".txt":
            self._texts[stem.as_posix()] = path
            return [stem.as_posix()]
        walk = _json_values if path.suffix.lower() == ".json" else _yaml_values
        found: dict[str, list[Line]] = {}
        parent = stem.parent.as_posix()
        for count, (keys, line) in enumerate(walk(path)):
            if count >= MAX_VALUES:
                raise ManifestError(str(path), -1, "", "", f"holds more than {MAX_VALUES:,} values")
            name = "/".join(keys) if keys else stem.name
            name = name if parent == "." else f"{parent}/{name}"
            found.setdefault(name, []).append(line)
        again = sorted(set(found) & set(self._values))
        if not again:
            self._values.update(found)
        return sorted(found)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(str(path), -1, "", "", f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ManifestError(str(path), -1, "", "", f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        reason = f"line {line} is not UTF-8 text, re-encode it"
        raise ManifestError(str(path), -1, "", "", reason) from error


def _yaml_values(path: Path) -> Iterator[tuple[tuple[str, ...], Line]]:
    try:
        root = yaml.compose(_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = f"is no YAML: {' '.join(str(error).split())[:200]}"
        raise ManifestError(str(path), -1, "", "", reason) from error
    yield from _yaml_node(root, (), str(path), 0)


def _yaml_node(
    node: Any, keys: tuple[str, ...], file: str, depth: int
) -> Iterator[tuple[tuple[str, ...], Line]]:
    if depth > MAX_DEPTH:
        raise ManifestError(file, -1, "", "", f"is nested more than {MAX_DEPTH} deep")
    if isinstance(node, yaml.ScalarNode):
        yield keys, Line(node.value, file, node.start_mark.line + 1)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _yaml_node(each, keys, file, depth + 1)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                raise ManifestError(f"{file}, line {line}", -1, "", "", "a name must be a text")
            yield from _yaml_node(value, (*keys, key.value), file, depth + 1)


def _json_values(path: Path) -> Iterator[tuple[tuple[str, ...], Line]]:
    try:
        root = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ManifestError(str(path), -1, "", "", f"is no JSON: {error}") from error
    yield from _json_node(root, (), str(path), 0)


def _json_node(
    node: Any, keys: tuple[str, ...], file: str, depth: int
) -> Iterator[tuple[tuple[str, ...], Line]]:
    if depth > MAX_DEPTH:
        raise ManifestError(file, -1, "", "", f"is nested more than {MAX_DEPTH} deep")
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _json_node(value, (*keys, key), file, depth + 1)
    elif isinstance(node, list):
        for place, value in enumerate(node, 1):
            if not isinstance(value, dict | list):
                named = f"{file}, {'/'.join(keys) or 'list'}[{place - 1}]"
                yield keys, Line(value if isinstance(value, str) else json.dumps(value), named, 1)
            else:
                yield from _json_node(value, keys, file, depth + 1)
    else:
        yield keys, Line(node if isinstance(node, str) else json.dumps(node), file, 1)
