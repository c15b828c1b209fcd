"""What a scheduler is called: by diffusers, by A1111, ComfyUI, kohya and others.

Many programs name a sampler and the spacing of its steps, in one word or in two columns;
diffusers has a class and options. What is stored and drawn is always the class and the
options. Case, blanks, hyphens and underscores of a name do not count. Samplers that diffusers
lacks are refused rather than replaced by a relative.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_SDE = {"algorithm_type": "sde-dpmsolver++"}


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler as programs name it.

    Attributes:
        scheduler: diffusers' class.
        label: A1111's name; empty where A1111 has none.
        names: Other names, in the spelling of the programs they come from.
        config: Options that make the class this sampler.
        automatic: The spacing A1111 takes for it when told `Automatic`.
    """

    scheduler: str
    label: str
    names: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    automatic: str = ""


def _sampler(
    scheduler: str, label: str, names: str = "", automatic: str = "", **config: Any
) -> Sampler:
    return Sampler(f"{scheduler}Scheduler", label, tuple(names.split()), config, automatic)


SAMPLERS = (
    _sampler("EulerDiscrete", "Euler", "euler k_euler"),
    _sampler("EulerAncestralDiscrete", "Euler a", "euler_a euler_ancestral k_euler_a "
             "k_euler_ancestral"),
    _sampler("LMSDiscrete", "LMS", "lms k_lms"),
    _sampler("HeunDiscrete", "Heun", "heun k_heun"),
    _sampler("KDPM2Discrete", "DPM2", "dpm_2 k_dpm_2 kdpm_2", "Karras"),
    _sampler("KDPM2AncestralDiscrete", "DPM2 a", "dpm_2_a dpm_2_ancestral k_dpm_2_a "
             "k_dpm_2_ancestral kdpm_2_a", "Karras"),
    _sampler("DPMSolverMultistep", "DPM++ 2M", "dpmpp_2m k_dpmpp_2m dpmsolver++", "Karras"),
    _sampler("DPMSolverMultistep", "DPM++ 2M SDE", "dpmpp_2m_sde dpmpp_2m_sde_gpu "
             "k_dpmpp_2m_sde", "Exponential", **_SDE),
    _sampler("DPMSolverMultistep", "DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu "
             "k_dpmpp_2m_sde_heun", "Exponential", **_SDE, solver_type="heun"),
    _sampler("DPMSolverMultistep", "DPM++ 3M SDE", "dpmpp_3m_sde dpmpp_3m_sde_gpu "
             "k_dpmpp_3m_sde", "Exponential", **_SDE, solver_order=3),
    _sampler("DPMSolverMultistep", "", "dpmsolver", algorithm_type="dpmsolver"),
    _sampler("DPMSolverSinglestep", "DPM++ SDE", "dpmpp_sde dpmpp_sde_gpu k_dpmpp_sde dpmsingle "
             "dpmpp_2s", "Karras"),
    _sampler("DDIM", "DDIM", "ddim"),
    _sampler("PNDM", "PLMS", "plms pndm"),
    _sampler("UniPCMultistep", "UniPC", "unipc uni_pc"),
    _sampler("UniPCMultistep", "", "uni_pc_bh2", solver_type="bh2"),
    _sampler("LCM", "LCM", "lcm k_lcm"),
    _sampler("DDPM", "", "ddpm"),
    _sampler("DEISMultistep", "", "deis"),
    _sampler("IPNDM", "", "ipndm"),
    _sampler("SASolver", "", "sa_solver"),
    _sampler("TCD", "", "tcd"),
)  # fmt: skip

DIFFUSIONDB = ("ddim", "plms", "k_euler", "k_euler_ancestral", "k_heun", "k_dpm_2",
               "k_dpm_2_ancestral", "k_lms")  # fmt: skip
"""DiffusionDB's samplers, numbered from 1; its 9 means any other."""

SPACINGS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "Karras": ("karras", {"use_karras_sigmas": True}, ()),
    "Exponential": ("exponential", {"use_exponential_sigmas": True}, ()),
    "Beta": ("beta", {"use_beta_sigmas": True}, ()),
    "SGM Uniform": ("sgm_uniform", {"timestep_spacing": "trailing"}, ("simple",)),
    "DDIM": ("ddim_uniform", {"timestep_spacing": "leading"}, ("ddim",)),
    "Uniform": ("normal", {}, ("uniform", "default", "discrete", "none")),
}
"""A1111's schedule type to ComfyUI's scheduler, the options it means, and other names of it."""

LACKING = {
    "dpm++ 2s a": "diffusers has no DPM++ 2S a",
    "dpmpp_2s_ancestral": "diffusers has no DPM++ 2S a",
    "dpm fast": "diffusers has no DPM fast",
    "dpm adaptive": "diffusers has no DPM adaptive",
    "restart": "diffusers has no Restart sampler",
    "res_multistep": "diffusers has no RES sampler",
    "er_sde": "diffusers has no ER-SDE sampler",
    "heunpp2": "diffusers has no Heun++ sampler",
    "ddim cfg++": "diffusers has no CFG++ sampler",
    "9": "DiffusionDB's 9 stands for any sampler it does not name",
    "others": "DiffusionDB's 'others' names no sampler",
}
"""Names that are known and cannot be drawn with, and why."""


@dataclass(frozen=True, slots=True)
class SchedulerChoice:
    """What a name means to diffusers.

    Attributes:
        scheduler: Class name.
        config: Options that the name stands for, as a JSON object; empty for none.
    """

    scheduler: str
    config: str = ""


@dataclass(frozen=True, slots=True)
class SamplerName:
    """What A1111 calls a scheduler.

    Attributes:
        sampler: For `Sampler:`; diffusers' short class name where A1111 has none.
        schedule_type: For `Schedule type:`; empty where the options name none.
        config: Options that neither of the two says, as a JSON object; empty for none.
    """

    sampler: str
    schedule_type: str = ""
    config: str = ""


def fold_name(name: str) -> str:
    """A name without case, blanks and signs; two plus signs count as `pp`."""
    return re.sub(r"[^0-9a-z]", "", name.lower().replace("++", "pp"))


@lru_cache(maxsize=65536)
def choose_scheduler(name: str, schedule_type: str = "", config: str = "") -> SchedulerChoice:
    """The class and the options of a scheduler, however it is named; asking again is quick.

    A name that nobody knows comes back with the suffix `Scheduler`, as diffusers would name it.

    Args:
        name: Of any program.
        schedule_type: A1111's schedule type or ComfyUI's scheduler, from a column of its own.
        config: JSON object of options, which win over those that the names mean.

    Returns:
        With options in one canonical text. What is no JSON object comes back as it is.
    """
    sampler, spacing = _read(name)
    spacing = _spacing_of(schedule_type, sampler) if schedule_type else spacing
    made = sampler.scheduler if sampler else _class_of(name)
    options = {**((sampler.config if sampler else None) or {}), **SPACINGS.get(spacing, _NONE)[1]}
    stated = _object(config) if config else {}
    if stated is None:
        return SchedulerChoice(made, config)
    return SchedulerChoice(made, _json({**options, **stated}))


def schedule_type_fault(text: str) -> str:
    """Why a schedule type is refused; empty when it is known."""
    if not text or fold_name(text) in (*_SPACING_NAMES, "automatic"):
        return ""
    near = difflib.get_close_matches(fold_name(text), _SPACING_NAMES, n=3, cutoff=0.0)
    named = ", ".join(dict.fromkeys(_SPACING_NAMES[fold] for fold in near))
    return f"no such schedule type, nearest are {named}"


def lacking_reason(name: str) -> str:
    """Why a well-known sampler cannot be drawn with; empty for any other name."""
    return _LACKING.get(fold_name(name), "")


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known class names that a misspelt one is closest to, nearest first.

    Args:
        name: What somebody wrote, in the words of any program.
        known: Class names that can be drawn with.
        count: How many.
    """
    known = sorted(known)
    spellings = {fold_name(scheduler): scheduler for scheduler in known}
    spellings |= {
        fold: sampler.scheduler for fold, sampler in _SAMPLERS.items() if sampler.scheduler in known
    }
    written = fold_name(name)
    found: dict[str, None] = {}
    for form in (written, written.removesuffix("scheduler") + "scheduler"):
        # A name in another program's words is short; a class name has the suffix on both sides.
        near = difflib.get_close_matches(form, spellings, n=4 * count, cutoff=0.6)
        found |= dict.fromkeys(spellings[fold] for fold in near)
    near = difflib.get_close_matches(written + "scheduler", spellings, n=len(spellings), cutoff=0.0)
    found |= dict.fromkeys(spellings[fold] for fold in near)
    return list(found)[:count]


def a1111_name(scheduler: str, config: str = "") -> SamplerName:
    """What A1111 calls a class with these options: the inverse of `choose_scheduler`.

    Args:
        scheduler: diffusers' class name.
        config: JSON object of options; empty for none.
    """
    rest = _object(config) if config else {}
    if rest is None:
        return SamplerName(scheduler.removesuffix("Scheduler"), "", config)
    best = Sampler(scheduler, "")
    for sampler in SAMPLERS:
        own = sampler.config or {}
        fits = sampler.scheduler == scheduler and _within(own, rest)
        if fits and sampler.label and len(own) >= len(best.config or {}):
            best = sampler
    rest = {key: value for key, value in rest.items() if key not in (best.config or {})}
    spacing = ""
    for label, (_, options, _) in SPACINGS.items():
        if not spacing and options and _within(options, rest):
            spacing = label
            rest = {key: value for key, value in rest.items() if key not in options}
    name = best.label or scheduler.removesuffix("Scheduler")
    return SamplerName(name, spacing, _json(rest))


def names_of(scheduler: str) -> tuple[str, ...]:
    """All names that mean a class without any options, the short class name first."""
    found = [scheduler.removesuffix("Scheduler")]
    for sampler in SAMPLERS:
        if sampler.scheduler == scheduler and not sampler.config:
            found += [name for name in (sampler.label, *sampler.names) if name]
    # Names that differ in case or signs alone are one name.
    return tuple({fold_name(name): name for name in reversed(found)}.values())[::-1]


def named_variants(scheduler: str) -> dict[str, str]:
    """Names that mean a class with options, each with the options as JSON."""
    return {
        name: _json(sampler.config)
        for sampler in SAMPLERS
        if sampler.scheduler == scheduler and sampler.config
        for name in (sampler.label, *sampler.names)
        if name
    }


def _read(name: str) -> tuple[Sampler | None, str]:
    """The sampler in a name and the spacing that it ends in, either may be none."""
    folded = fold_name(name)
    if folded in _SAMPLERS:
        return _SAMPLERS[folded], ""
    for ending, spacing in _ENDINGS.items():
        stem = folded.removesuffix(ending)
        if stem != folded and stem in _SAMPLERS:
            return _SAMPLERS[stem], spacing
    return None, ""


def _spacing_of(schedule_type: str, sampler: Sampler | None) -> str:
    folded = fold_name(schedule_type)
    if folded == "automatic":
        return sampler.automatic if sampler else ""
    return _SPACING_NAMES.get(folded, "")


def _class_of(name: str) -> str:
    return name if name.endswith("Scheduler") else f"{name}Scheduler"


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether all of these options are stated; 1 is not true."""
    return all(key in whole and _json({"": whole[key]}) == _json({"": value})
               for key, value in part.items())  # fmt: skip


def _json(value: Mapping[str, Any] | None) -> str:
    if not value:
        return ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


_NONE: tuple[str, dict[str, Any], tuple[str, ...]] = ("", {}, ())
_LACKING = {fold_name(name): reason for name, reason in LACKING.items()}
_SPACING_NAMES = {
    fold_name(name): label
    for label, (comfy, _, others) in SPACINGS.items()
    for name in (label, comfy, *others)
}
_ENDINGS = {
    **{name: label for name, label in _SPACING_NAMES.items() if name not in ("ddim", "none")},
    "k": "Karras",
}
_SAMPLERS: dict[str, Sampler] = {}
for _one in SAMPLERS:
    if not _one.config:
        _SAMPLERS |= {fold_name(_one.scheduler): _one,
                      fold_name(_one.scheduler.removesuffix("Scheduler")): _one}  # fmt: skip
for _one in SAMPLERS:
    _SAMPLERS |= {fold_name(name): _one for name in (_one.label, *_one.names) if name}
_SAMPLERS |= {str(number): _SAMPLERS[fold_name(name)] for number, name in enumerate(DIFFUSIONDB, 1)}
