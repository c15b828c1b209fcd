"""Moments as records hold them, and as people read them: UTC inside, local time outside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def parsed_time(moment: Any) -> datetime | None:
    """A moment in ISO form; None when it is none. Without a zone it is UTC."""
    try:
        parsed = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def age_s(moment: Any, now: datetime) -> float:
    """Seconds from a moment in ISO form until `now`; infinite when it is unknown."""
    parsed = parsed_time(moment)
    return float("inf") if parsed is None else (now - parsed).total_seconds()


def local_clock(moment: str, now: datetime) -> str:
    """A moment as a local clock time, with its day when that is not today."""
    local = datetime.fromisoformat(moment).astimezone()
    same_day = local.date() == now.astimezone().date()
    return local.strftime("%H:%M" if same_day else "%a %d %b, %H:%M")


def in_words(seconds: float) -> str:
    """A length of time as people say it: `40 s`, `6 min`, `3 h`, `2 d`."""
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 86400)} d"
