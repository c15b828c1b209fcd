"""Keys whose last parts people chose: names of exported pictures and of their folders.

Keys of a run are made of digits and fixed words (`store.check_key`). An export names
pictures after columns, so its keys hold letters of any script. What makes them safe to hand to a
file system is checked here once more, whoever made the name.
"""

from __future__ import annotations

import unicodedata

from sdbatch.errors import InputError

MAX_PART_BYTES = 200
"""Of one part: file systems take 255, and a local store writes `.NAME.xxxxxxxxxxxx.tmp` first."""

_FORBIDDEN = frozenset('<>:"\\|?*')
_BAD_KINDS = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


class NamedKey(str):
    """A relative path that cannot leave the root it is joined to.

    Raises:
        InputError: A part is empty, too long, begins with a dot, or holds what some file
            system takes for more than a letter.
    """

    __slots__ = ()

    def __new__(cls, key: str) -> NamedKey:
        """Check every part."""
        for part in key.split("/"):
            if (
                not part
                or part[0] == "."
                or part[-1] in ". "
                or len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES
                or any(_is_bad(character) for character in part)
            ):
                raise InputError(f"object name {key!r}: {part!r} is no safe name")
        return super().__new__(cls, key)


def _is_bad(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character) in _BAD_KINDS
