"""The page: facts into one HTML file that asks nobody for anything.

Style and script stand in the page and are named by their hashes in its content security
policy; nothing else may run or be fetched. Texts reach the page through the template, which
escapes them, or as JSON that no parser of HTML can take for markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sdbatch.audit.plain_text import plain
from sdbatch.dataset.columns import installed_version
from sdbatch.report.gather import Facts
from sdbatch.report.sample import Card
from sdbatch.report.sections import columns, failures, pace, phases, tiles, workers
from sdbatch.report.tally import Distribution, shown

PROMPT_CHARS = 4_000
VALUE_CHARS = 600
FILTER_VALUES = 24
FEW_FILTERS = 2
"""Filters that stand beside the search; the others wait behind a button."""

FIRST = ("status", "scheduler")
"""Columns whose filters come first, if they have any."""

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(facts: Facts) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("sdbatch.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _template("report.css"), _template("report.js")
    same = _same(facts.cards)
    return environment.get_template("report.html.j2").render(
        title=_title(facts),
        url=facts.url,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        made_at=f"{facts.made_at:%Y-%m-%d %H:%M} UTC",
        version=installed_version(),
        tiles=tiles(facts),
        sample=_sample_line(facts),
        gallery=Markup(safe_json(_gallery(facts, same))),
        same=[(name, _text(value)) for name, value in same.items()],
        columns=columns(facts),
        failures=failures(facts),
        pace=pace(facts.timing),
        phases=phases(facts.timing),
        workers=workers(facts.timing),
        settings=[(name, _text(value)) for name, value in sorted(facts.settings.items())],
        unread=facts.unread,
    )


def safe_json(value: Any) -> str:
    """JSON that may stand inside a `script` element: no markup, no line ends of its own."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return text


def _template(name: str) -> str:
    return files("sdbatch.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: show its own pictures, with its own style and script."""
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; "
        f"script-src 'sha256-{digests[1]}'; base-uri 'none'; form-action 'none'"
    )


def _title(facts: Facts) -> str:
    return plain(facts.url.rstrip("/").rsplit("/", 1)[-1]) or "dataset"


def _sample_line(facts: Facts) -> str:
    here, all_of_them = len(facts.cards), facts.committed
    if here >= all_of_them:
        return f"All {all_of_them:,} pictures."
    return (
        f"A sample: {here:,} of {all_of_them:,} pictures, spread evenly over the dataset. "
        "Search and filters look through the sample; all numbers below count the whole dataset."
    )


def _gallery(facts: Facts, same: Mapping[str, Any]) -> dict[str, Any]:
    """What the script shows: columns once, then one array a picture."""
    names = list(
        dict.fromkeys(name for card in facts.cards for name in card.columns if name not in same)
    )
    return {
        "columns": names,
        "filters": _filters(facts, names),
        "cards": [_row(card, names) for card in facts.cards],
    }


def _row(card: Card, names: Sequence[str]) -> list[Any]:
    small = card.thumbnail
    picture = [small.url, small.width_px, small.height_px] if small else None
    prompt = card.prompt
    if len(prompt) > PROMPT_CHARS:
        prompt = f"{prompt[:PROMPT_CHARS]} … ({len(card.prompt):,} characters)"
    values = [_plain_value(card.columns.get(name)) for name in names]
    return [card.key, card.status, prompt, picture, values]


def _filters(facts: Facts, names: Sequence[str]) -> list[dict[str, Any]]:
    """Filters over what differs between the pictures of the sample."""
    statuses = sorted({card.status for card in facts.cards})
    status: dict[str, Any] = {"name": "status", "values": [[value, value] for value in statuses]}
    found = [status] if len(statuses) > 1 else []
    found += [made for each in _ranked(facts.columns, names) if (made := _filter(each))]
    for number, one in enumerate(found):
        one["first"] = number < FEW_FILTERS and "values" in one
    return found


def _ranked(found: Sequence[Distribution], names: Sequence[str]) -> list[Distribution]:
    """Columns that differ, settings that people choose by first, ranges last."""
    able = [each for each in found if each.name in names and not each.constant]
    return sorted(able, key=lambda each: (each.name not in FIRST, each.ranges))


def _filter(column: Distribution) -> dict[str, Any] | None:
    if not column.ranges and len(column.values) <= FILTER_VALUES:
        values = [[_plain_value(value), label] for value, label in _labelled(column)]
        return {"name": column.name, "values": values}
    if column.low is None or column.high is None:
        return None
    return {"name": column.name, "low": column.low, "high": column.high}


def _labelled(column: Distribution) -> list[tuple[Any, str]]:
    pairs = zip(column.values, column.bars, strict=True)
    return [(value, label) for value, (label, _) in pairs]


def _same(cards: Sequence[Card]) -> dict[str, Any]:
    """Columns in which all pictures that were drawn say the same; shown once."""
    drawn = [card.columns for card in cards if card.status != "failed"] or [
        card.columns for card in cards
    ]
    if len(drawn) < 2:
        return {}
    return {
        name: value
        for name, value in drawn[0].items()
        if all(name in other and other[name] == value for other in drawn[1:])
    }


def _plain_value(value: Any) -> Any:
    """A value as JSON holds it and filters compare it."""
    if value is None or isinstance(value, bool | int):
        # Beyond 2**53 a script's numbers lose digits, and seeds must not.
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, str | int | float | bool | date) or value is None:
        text = shown(value) if value is not None else "-"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}…"
