"""What stands in each part of the page, as plain values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from sdbatch.audit.errors import OTHER
from sdbatch.report.charts import bar, columns_chart, curve_chart, duration, slices, stack
from sdbatch.report.gather import Facts
from sdbatch.report.tally import Distribution
from sdbatch.report.timing import PHASES, Timing, in_order

BARS = 12
"""Values of one column that are shown as bars."""
GROUPS = 40
"""Groups of failures that are shown."""
MESSAGE_CHARS = 1_200


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """(number, what it counts, how to colour it) of the head of the page."""
    found = [(f"{facts.total('success'):,}", "pictures", "")]
    planned = facts.total("images")
    if facts.committed < planned:
        found.append((f"{facts.committed / max(planned, 1):.0%}", f"of {planned:,} planned", ""))
    others = [name for name in ("failed", "filtered") if facts.total(name)]
    found += [(f"{facts.total(name):,}", name, name) for name in others]
    seconds = facts.timing.seconds
    if seconds > 0:
        found.append((duration(seconds), "from first to last", ""))
        found.append((f"{facts.committed / seconds:,.2f}", "pictures a second", ""))
    if facts.timing.occupancy is not None:
        found.append((f"{facts.timing.occupancy:.0%}", "of lanes in use", ""))
    return found


def columns(facts: Facts) -> list[dict[str, Any]]:
    """Every column in which pictures differ: bars for values, a histogram for ranges."""
    told = [each for each in facts.columns if each.name != "error_type"]  # a part of its own
    return [_column(each) for each in told if not each.constant]


def _column(column: Distribution) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "missing": column.missing, "chart": None}
    if column.ranges and column.low is not None and column.high is not None:
        label = f"{column.name}: from {column.low:.6g} to {column.high:.6g}"
        low, high = f"{column.low:.6g}", f"{column.high:.6g}"
        return shown | {"chart": columns_chart(column.bars, label), "low": low, "high": high}
    most = max((count for _, count in column.bars), default=1)
    bars = [(name, f"{count:,}", bar(count / most)) for name, count in column.bars[:BARS]]
    return shown | {"bars": bars, "more": max(len(column.bars) - BARS, 0)}


def failures(facts: Facts) -> list[dict[str, Any]]:
    """Failures by type, each with its messages and examples, most frequent first."""
    types: dict[str, int] = {}
    for status in facts.statuses:
        for name, count in status.errors.items():
            types[name] = types.get(name, 0) + count
    most = max(types.values(), default=1)
    shown = facts.groups[:GROUPS]
    found = []
    for name, count in sorted(types.items(), key=lambda item: (-item[1], item[0])):
        groups = [group for group in shown if group.error_type == name]
        found.append(
            {
                "name": name,
                "count": f"{count:,}",
                "bar": bar(count / most, "bad"),
                "advice": groups[0].advice if groups else "",
                "command": groups[0].command if groups else "",
                "messages": [
                    {
                        "count": f"{group.count:,}",
                        "message": _message(group.message, group.examples),
                        "examples": group.examples,
                    }
                    for group in groups
                ],
            }
        )
    return found


def _message(message: str, examples: Sequence[Any]) -> str:
    text = examples[0].message if examples else message
    text = text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}…"
    return f"Other messages, such as: {text}" if message == OTHER else text


def pace(timing: Timing) -> dict[str, Any] | None:
    """Pictures a second over time; None when records tell of no time."""
    if not timing.rates or timing.began is None or timing.ended is None:
        return None
    began, ended = timing.began.timestamp(), timing.ended.timestamp()
    form = "%d %b %H:%M" if ended - began > 600 else "%H:%M:%S"
    titles = [
        f"{_clock(first, form)} to {_clock(last, form)}: {rate:,.2f} pictures a second"
        for rate, (first, last) in zip(
            timing.rates, slices(len(timing.rates), began, ended), strict=True
        )
    ]
    label = f"Pictures a second, at most {max(timing.rates):,.2f}"
    return {
        "chart": curve_chart(timing.rates, titles, label),
        "most": f"{max(timing.rates):,.2f}",
        "began": f"{timing.began:%Y-%m-%d %H:%M:%S} UTC",
        "ended": f"{timing.ended:%Y-%m-%d %H:%M:%S} UTC",
    }


def phases(timing: Timing) -> dict[str, Any] | None:
    """Seconds by phase, of all workers together; None when nothing was measured."""
    total = sum(timing.phases.values())
    if total <= 0:
        return None
    parts = _parts(timing.phases)
    rows = [
        (number, name, duration(seconds), f"{seconds / total:.1%}")
        for number, name, seconds in parts
    ]
    return {"chart": stack(parts, "Seconds by phase"), "rows": rows}


def workers(timing: Timing) -> dict[str, Any]:
    """One row a worker: what it drew, how long, how fast, on what."""
    most = max((worker.images for worker in timing.workers), default=1)
    rows: list[dict[str, Any]] = [
        {
            "name": worker.name,
            "device": worker.device,
            "images": f"{worker.images:,}",
            "bar": bar(worker.images / max(most, 1)),
            "shards": f"{worker.shards:,}",
            "seconds": duration(worker.seconds),
            "rate": f"{worker.images / worker.seconds:,.2f}" if worker.seconds > 0 else "-",
            "chart": _phase_bar(worker.phases),
        }
        for worker in timing.workers
    ]
    return {"rows": rows, "other": timing.other_workers}


def _phase_bar(spent: Mapping[str, float]) -> Markup:
    parts = _parts(spent)
    return stack(parts, "Seconds by phase") if parts else Markup("")


def _parts(spent: Mapping[str, float]) -> list[tuple[int, str, float]]:
    """(number of its colour, name, seconds): a phase has one colour on all of the page."""
    return [
        (PHASES.index(name) if name in PHASES else len(PHASES), name.replace("_", " "), seconds)
        for name, seconds in in_order(spent).items()
        if seconds > 0
    ]


def _clock(moment: float, form: str) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(form)
