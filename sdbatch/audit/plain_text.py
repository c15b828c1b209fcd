"""Texts of strangers on a terminal: prompts and messages may hold anything.

A control character in a prompt could move the cursor, recolour the screen or hide a line.
"""

from __future__ import annotations


def plain(text: str) -> str:
    """The text on one line, with everything unprintable spelt out."""
    if text.isprintable():
        return text
    return "".join(_spelt(letter) for letter in text)


def shortened(text: str, chars: int) -> str:
    """At most so many characters of a text; dots say that there is more."""
    return text if len(text) <= chars else f"{text[: chars - 3].rstrip()}..."


def _spelt(letter: str) -> str:
    if letter.isprintable():
        return letter
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(letter, f"\\x{ord(letter):02x}")
