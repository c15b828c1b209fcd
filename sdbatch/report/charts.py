"""Charts as SVG: shapes alone, coloured by the page's style sheet, with titles to hover over.

Texts beside a chart are the page's own, so that they stay sharp and readable at any width.
Everything that a dataset says is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 120
CURVE_WIDTH, CURVE_HEIGHT = 960, 180
_GAP_SHARE = 0.12
_STACK_HEIGHT = 28


def columns_chart(bars: Sequence[tuple[str, int]], label: str) -> Markup:
    """Upright bars, one beside the other.

    Args:
        bars: (what it counts, how often).
        label: What the whole shows, for people who cannot see it.
    """
    most = max((count for _, count in bars), default=0) or 1
    step = WIDTH / max(len(bars), 1)
    gap = min(step * _GAP_SHARE, 3.0)
    shapes = []
    for number, (name, count) in enumerate(bars):
        height = max(HEIGHT * count / most, 1.5 if count else 0.0)
        left, top = number * step + gap / 2, HEIGHT - height
        shapes.append(_rect((left, top), (step - gap, height), f"{name}: {count:,}"))
    return _svg(WIDTH, HEIGHT, "chart columns", label, shapes)


def curve_chart(values: Sequence[float], titles: Sequence[str], label: str) -> Markup:
    """A curve over time, the area below it filled.

    Args:
        values: In steps of equal length, none below 0.
        titles: What to say of each step.
        label: What the whole shows.
    """
    most = max(values, default=0.0) or 1.0
    step = CURVE_WIDTH / max(len(values), 1)
    points = [
        (number * step + step / 2, CURVE_HEIGHT - 2 - (CURVE_HEIGHT - 8) * value / most)
        for number, value in enumerate(values)
    ]
    if points:
        points = [(0.0, points[0][1]), *points, (float(CURVE_WIDTH), points[-1][1])]
    line = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    shapes = [
        *(_grid_line(CURVE_HEIGHT - 2 - (CURVE_HEIGHT - 8) * share) for share in (0, 0.5, 1)),
        Markup('<polygon class="area" points="0,{h} {line} {w},{h}"/>').format(
            h=CURVE_HEIGHT, w=CURVE_WIDTH, line=line
        ),
        Markup('<polyline class="line" points="{}"/>').format(line),
        *(
            _rect((number * step, 0), (step, CURVE_HEIGHT), title, "hover")
            for number, title in enumerate(titles)
        ),
    ]
    return _svg(CURVE_WIDTH, CURVE_HEIGHT, "chart curve", label, shapes)


def bar(share: float, kind: str = "") -> Markup:
    """One lying bar that fills a share, 0 to 1, of its place."""
    return Markup(
        '<svg class="bar {}" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" width="100" height="1"/><rect width="{}" height="1"/></svg>'
    ).format(kind, _n(100 * min(max(share, 0.0), 1.0)))


def stack(parts: Sequence[tuple[int, str, float]], label: str) -> Markup:
    """Parts of a whole, one after the other.

    Args:
        parts: (number of its colour, name, seconds) of each.
        label: What the whole shows.
    """
    total = sum(seconds for _, _, seconds in parts) or 1.0
    shapes, left = [], 0.0
    for number, name, value in parts:
        width = CURVE_WIDTH * value / total
        size, title = (max(width - 1, 0.5), _STACK_HEIGHT), f"{name}: {duration(value)}"
        shapes.append(_rect((left, 0), size, title, f"part-{number}"))
        left += width
    return _svg(CURVE_WIDTH, _STACK_HEIGHT, "chart stack", label, shapes)


def duration(seconds: float) -> str:
    """A length of time as people say it: `0.4 s`, `12 min`, `3.5 h`."""
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def slices(count: int, began: float, ended: float) -> Iterable[tuple[float, float]]:
    """(begin, end) of so many slices of equal length."""
    edges = [began + (ended - began) * number / count for number in range(count + 1)]
    return pairwise(edges)


def _svg(width: int, height: int, kind: str, label: str, shapes: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(kind, width, height, label, Markup("").join(shapes))


def _rect(
    at: tuple[float, float], size: tuple[float, float], title: str, kind: str = "bar-of"
) -> Markup:
    place = [_n(number) for number in (*at, *size)]
    return Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
    ).format(kind, *place, title)


def _grid_line(y: float) -> Markup:
    return Markup('<line class="grid" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
        CURVE_WIDTH, escape(_n(y)), escape(_n(y))
    )


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
