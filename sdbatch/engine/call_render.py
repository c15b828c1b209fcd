"""What of drawing is a matter of each call, not of the plan: where weights are held, and on what.

A plan that stands says what was used before; who says nothing now goes on with that.
"""

from __future__ import annotations

from dataclasses import replace

from sdbatch.errors import InputError, JobError
from sdbatch.job import MEMORY, QUANTIZE, Asked
from sdbatch.manifest.faults import only_fault
from sdbatch.model_specs import RenderSpec
from sdbatch.plan.resuming import STANDS
from sdbatch.plan.settings import Resolved
from sdbatch.records import ModelFacts

OF_THE_CALL = {"render.device": "device", "render.memory": "memory"}
"""Job key to field of `RenderSpec`."""


def demand_known(memory: str, quantize: str = "") -> None:
    """Refuse ways of holding a model that there are not.

    Raises:
        InputError: They are named.
    """
    for name, value, known in (
        ("memory", memory, MEMORY),
        ("quantize", quantize, ("", *QUANTIZE)),
    ):
        if value not in known:
            names = ", ".join(one for one in known if one)
            raise InputError(f"{name} {value!r}: there is none, use one of {names}")


def demand_drawable(facts: ModelFacts, memory: str, quantize: str, vae: str) -> None:
    """Refuse what a model cannot be had with, where no plan says so.

    Raises:
        InputError: It is drawn another way.
    """
    for key, value in (("memory", memory), ("quantize", quantize), ("vae", vae)):
        only = facts.only.get(key if key == "vae" else f"render.{key}")
        if only is not None and value not in only:
            raise InputError(f"model {facts.name}: {key} {value!r}: {only_fault(only)}")


def demand_together(asked: Asked) -> None:
    """Refuse ways of holding a model that no machine can combine.

    Raises:
        JobError: Two things that were asked for exclude each other.
    """
    memory, quantize = asked.value("render.memory"), asked.value("render.quantize")
    device = asked.value("render.device")
    if quantize == "nf4" and device not in ("auto", "cuda"):
        said = asked.sources.get("render.quantize", "default")
        raise JobError(f"{said}: render.quantize: nf4 needs a CUDA GPU, on {device} use int8")
    for key in ("render.compile", "render.lossy", "render.quantize"):
        value = asked.value(key)
        if memory == "offload" and value and value != "int8":
            said = asked.sources.get(key, "default")
            raise JobError(f"{said}: {key}: {value} does not go with --memory offload")


def render_again(render: RenderSpec, asked: Asked) -> RenderSpec:
    """A planned `RenderSpec` with what this call says of its own."""
    said = {
        field: asked.value(key)
        for key, field in OF_THE_CALL.items()
        if key in asked.sources and asked.value(key) != "auto"
    }
    return replace(render, **said)


def resolved_again(resolved: Resolved, render: RenderSpec) -> Resolved:
    """The settings of a resumed run, with what it is drawn with."""
    for key, field in OF_THE_CALL.items():
        if key not in resolved.explicit:
            resolved = resolved.with_value(key, getattr(render, field), STANDS)
    if render.vae is not None and "vae" not in resolved.explicit:
        resolved = resolved.with_value("vae", render.vae.name, STANDS)
    return resolved
