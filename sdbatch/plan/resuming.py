"""What stands, stands: the settings of a resumed run.

A folder remembers what was resolved when its plan was made. Defaults and `auto` accept it,
said in a note where it makes a difference; an explicit other value, another manifest or
other weights under the model's name are refused together, so that nobody meets them one
by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sdbatch.errors import PlanChangedError
from sdbatch.plan.fingerprint import ADDED_LATER, NOT_IN_PLAN, canonical
from sdbatch.plan.settings import LATE, Resolved, Setting

STANDS = "as planned"
_SHOWN_DIGITS = 12
_MODEL_KEYS = ("model", "model.revision")
Change = tuple[str, str, str]


def resume(
    stored: Mapping[str, Any],
    resolved: Resolved,
    output: str,
    *,
    planned_on: str = "",
    can_pin_model: bool = False,
) -> Resolved:
    """Settings under which a folder's run goes on.

    When `model` comes back other than it went in (nobody asked for one), the caller finds
    that model and goes on with its facts.

    Args:
        stored: Resolved values of the folder's job record.
        resolved: What this command resolves to.
        output: The folder, for the message.
        planned_on: Day of the plan, for notes, such as `21 Nov`.
        can_pin_model: An older revision of the model can still be loaded (a hub has it).

    Raises:
        PlanChangedError: Something explicit differs from what stands.
    """
    settings = dict(resolved.settings)
    changes: list[Change] = []
    taken: list[str] = []
    changes += _model_changes(stored, resolved, can_pin_model)
    unsaid = {key: was for key, was in ADDED_LATER.items() if key in resolved.settings}
    for key, was in {**unsaid, **stored}.items():
        now = resolved.settings.get(key, Setting(None, ""))
        if _kept(key, resolved, stored) or _same(key, was, now.value):
            continue
        if key == "manifest.identity" or key in resolved.explicit:
            changes.append((key.removesuffix(".identity"), _shown(was), _shown(now.value)))
            continue
        settings[key] = Setting(was, STANDS)
        if key in resolved.settings and key not in LATE:
            taken.append(f"{_named(key)} {_shown(was)}")
    if changes:
        raise PlanChangedError(output, tuple(changes))
    for key in LATE & stored.keys():
        settings[key] = Setting(stored[key], settings[key].source)
    return replace(resolved, settings=settings, notes=resolved.notes + _notes(taken, planned_on))


def _notes(taken: list[str], planned_on: str) -> tuple[str, ...]:
    """One line for everything that is taken over; none when nothing is."""
    if not taken:
        return ()
    *most, last = taken
    named = f"{', '.join(most)} and {last}" if most else last
    return (f"using {named} {STANDS}" + (f" on {planned_on}" if planned_on else ""),)


def _model_changes(
    stored: Mapping[str, Any], resolved: Resolved, can_pin_model: bool
) -> Iterator[Change]:
    """Other weights than planned are refused, unless the planned ones can be had."""
    (was_name, was), (name, now) = (
        (stored.get("model"), stored.get("model.revision")),
        (resolved.value("model"), resolved.value("model.revision")),
    )
    if was == now:
        return
    if was_name != name and "model" in resolved.explicit:
        yield ("model", _shown(was_name), _shown(name))
    elif was_name == name and not can_pin_model:
        yield ("model.revision", _shown(was), _shown(now))


def _kept(key: str, resolved: Resolved, stored: Mapping[str, Any]) -> bool:
    """Whether this command's own value is used, whatever stands."""
    if key == "model":
        same_weights = stored.get("model.revision") == resolved.value("model.revision")
        return same_weights or "model" in resolved.explicit
    return key in NOT_IN_PLAN


def _same(key: str, was: Any, now: Any) -> bool:
    if key == "render.batch_size" and isinstance(was, Mapping) and isinstance(now, int):
        return all(lanes == now for lanes in was.values())
    return canonical(was) == canonical(now)


def _named(key: str) -> str:
    return key.replace(".", " ") if key in _MODEL_KEYS else key.removeprefix("defaults.")


def _shown(value: Any) -> str:
    text = "none" if value in (None, "") else str(value)
    is_hash = len(text) in (40, 64) and set(text) <= set("0123456789abcdef")
    return text[:_SHOWN_DIGITS] if is_hash else text
