"""The card of a dataset on the Hub: ours in what follows from the data, theirs in all else.

People set a licence and write a text on the Hub's own page. A later push keeps both: of the
YAML it replaces what names files and counts rows, and the text only while it is the one that
an earlier push wrote.
"""

from __future__ import annotations

import re

import yaml

MARK = "<!-- written by sdbatch push; delete this line to keep your own text -->"
OURS = ("configs", "size_categories", "dataset_info")
_FRONT = re.compile(r"\A---\r?\n(?P<yaml>.*?\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def merged(ours: str, theirs: str | None) -> str:
    """The card to push.

    Args:
        ours: As the export wrote it.
        theirs: As it stands on the Hub; None when there is none.
    """
    front, text = _parts(ours)
    text = f"{MARK}\n{text}"
    if theirs is not None:
        kept, standing = _parts(theirs)
        front = {
            **{name: value for name, value in kept.items() if name not in OURS},
            **{name: value for name, value in front.items() if name in OURS or name not in kept},
        }
        text = text if MARK in standing or not standing.strip() else standing
    shown = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{shown}---\n{text}"


def _parts(card: str) -> tuple[dict[str, object], str]:
    """YAML and text; a card whose YAML cannot be read is all text."""
    found = _FRONT.match(card)
    if found is None:
        return {}, card
    try:
        front = yaml.safe_load(found["yaml"])
    except yaml.YAMLError:
        return {}, card
    return (front, card[found.end() :]) if isinstance(front, dict) else ({}, card)
