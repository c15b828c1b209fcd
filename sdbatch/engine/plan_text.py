"""Settings and who said them, for people: what is drawn first, what nobody touched last.

`plan` has a line for each setting that decides a picture or that somebody set; the rest stands
in one paragraph. `render` begins with one line, sorted by who spoke.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from sdbatch.plan.settings import LATE, Setting
from sdbatch.records import size_name

FIRST = (
    *("model", "model.revision", "model.family", "defaults.num_inference_steps"),
    *("defaults.guidance_scale", "defaults.true_cfg_scale", "defaults.width", "defaults.height"),
    *("defaults.scheduler", "defaults.scheduler_config", "defaults.negative_prompt"),
    *("defaults.prompt_syntax", "defaults.num_images_per_prompt", "seed"),
    *("render.device", "render.dtype", "render.memory", "render.quantize", "vae"),
    *("render.batch_size", "shards.size", "manifest", "output"),
)
"""What decides how a picture looks, or where it is drawn: always shown, in this order."""

DEFAULT, WORKER = "default", "first worker"
FOUND_LATE = LATE | {"render.device", "render.memory"}
"""Settings whose `auto` the first worker settles."""
OF_SOME = frozenset({"defaults.true_cfg_scale", "defaults.micro_conditioning"})
"""Settings of models of some families alone; null for all others."""
WIDEST = 40
PAGE = 100


def settings_lines(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Every setting: a line each, aligned, and a paragraph for what nobody set."""
    settings = {key: one for key, one in settings.items() if not _foreign(key, one)}
    shown = [key for key in FIRST if key in settings and _counts(key, settings[key])]
    first = set(shown)
    shown += [key for key in settings if key not in first and settings[key].source != DEFAULT]
    told = {key: _told(key, settings[key]) for key in shown}
    key_width = max(len(key) for key in shown)
    value_width = min(WIDEST, max(len(value) for value, _ in told.values()))
    for key, (value, source) in told.items():
        yield f"{key:<{key_width}}  {value:<{value_width}}  {source}"
    rest = [f"{key} {value_text(settings[key].value)}" for key in settings if key not in told]
    if rest:
        # A setting and its value stay together: spaces inside are hidden from the filling.
        text = ", ".join(one.replace(" ", "\0") for one in rest)
        filled = textwrap.fill(
            f"by\0default: {text}",
            PAGE,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from ("", *filled.replace("\0", " ").splitlines())


def _foreign(key: str, setting: Setting) -> bool:
    """Whether it is a setting of other models than this one."""
    return key in OF_SOME and setting.value is None


def settings_line(settings: Mapping[str, Setting]) -> str:
    """What rows take that say nothing, in one line, sorted by who said it."""
    said = settings["defaults.width"].value, settings["defaults.height"].value
    words = {
        "defaults.num_inference_steps": "{} steps",
        "defaults.guidance_scale": "guidance {}",
        "defaults.true_cfg_scale": "true CFG {}",
        "defaults.width": size_name(*said),
        "defaults.scheduler": "{}",
        "defaults.scheduler_config": "options {}",
        "seed": "seed {}",
        "render.device": "device {}",
        "render.dtype": "dtype {}",
        "render.memory": "memory {}",
        "render.quantize": "quantize {}",
        "vae": "vae {}",
        "render.batch_size": "lanes {}",
    }
    by_source: dict[str, list[str]] = {}
    for key, text in words.items():
        setting = settings.get(key)
        late = key in FOUND_LATE
        if setting is None or (setting.value in (None, "", "none") and not late):
            continue
        value, source = _told(key, setting)
        word = text.split()[0] if source == WORKER and value == "auto" else text.format(value)
        by_source.setdefault(source, []).append(word)
    parts = (f"{', '.join(found)} ({source})" for source, found in by_source.items())
    return f"settings: {'; '.join(parts)}"


def _counts(key: str, setting: Setting) -> bool:
    """Whether a setting says anything: what is empty by default does not."""
    return key in FOUND_LATE or setting.source != DEFAULT or setting.value not in (None, "")


def value_text(value: Any) -> str:
    """A value in at most `WIDEST` characters or so."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}: {one}" for key, one in value.items())
    text = "''" if value == "" else str(value)
    return text if len(text) <= WIDEST else f"{text[:12]}..."


def _told(key: str, setting: Setting) -> tuple[str, str]:
    """Value and source as they are shown; what is not settled yet is `auto`."""
    if key in FOUND_LATE and setting.value in (None, "auto"):
        return "auto", WORKER
    return value_text(setting.value), setting.source
