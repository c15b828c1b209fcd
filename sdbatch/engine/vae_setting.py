"""The autoencoder of a run: found by its name, and said in the plan by its revision."""

from __future__ import annotations

from dataclasses import replace

from sdbatch.model_specs import VaeSpec
from sdbatch.plan.settings import Resolved, Setting
from sdbatch.records import ModelFacts
from sdbatch.render.vae.vae_choice import find_vae

NAME, REVISION = "vae", "vae.revision"


def with_vae(resolved: Resolved, model: ModelFacts) -> tuple[Resolved, VaeSpec | None]:
    """All settings with the revision of the VAE that was asked for, and where it lies.

    Raises:
        ModelError: It is not there, or does not fit the model.
    """
    name: Setting = resolved.settings[NAME]
    vae = find_vae(name.value, model)
    revision = vae.revision if vae else ""
    resolved = resolved.with_value(REVISION, revision, f"vae {vae.name}" if vae else "default")
    if NAME in resolved.explicit:
        resolved = replace(resolved, explicit=resolved.explicit | {REVISION})
    return resolved, vae
