"""Architectures by name: the shapes of a model without its weights.

Published ones ship as JSON beside this file, with their source; a model's folder has its
own. They are enough to say what a model would take of a machine, and with random weights
to measure it. Plain data: no torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.job import nearest
from sdbatch.records import RowDefaults
from sdbatch.render.families.known import FAMILY_DEFAULTS, KNOWN
from sdbatch.render.model_facts import find_model

Config = Mapping[str, Any]

_SHIPPED = Path(str(resources.files("sdbatch"))) / "render" / "architectures"
_PARTS = {
    "text_encoder": "text_encoder/config.json",
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
NOT_DRAWN = ("sdxl", "sd3", "flux")
"""Known by name, and of families that this version does not draw."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The configurations of one model.

    Attributes:
        name: As the user gives it.
        title: For people.
        source: Who published it and where; empty for a folder's own.
        pipeline_class: diffusers' pipeline for it.
    """

    name: str
    title: str
    source: str
    pipeline_class: str
    text_encoder: Config
    unet: Config
    vae: Config
    scheduler: Config

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def embeds_shape(self) -> tuple[int, int]:
        """(length, width) of a prompt's embeddings."""
        config = self.text_encoder
        return (int(config["max_position_embeddings"]), int(config["hidden_size"]))

    @property
    def defaults(self) -> RowDefaults:
        """What a row that says nothing asks for."""
        known = KNOWN.get(self.name, FAMILY_DEFAULTS[self.pipeline_class][1])
        cells = self.unet.get("sample_size") or 64
        height, width = cells if isinstance(cells, list) else (cells, cells)
        return RowDefaults(
            negative_prompt="",
            width=known.width or width * self.scale,
            height=known.height or height * self.scale,
            num_inference_steps=known.num_inference_steps,
            guidance_scale=known.guidance_scale,
            scheduler=known.scheduler or str(self.scheduler["_class_name"]),
            scheduler_config="",
            num_images_per_prompt=1,
        )


def architecture_names() -> list[str]:
    """Every name that `find_architecture` takes."""
    return [*sorted(path.stem for path in _SHIPPED.glob("*.json")), *KNOWN]


def find_architecture(name: str) -> Architecture:
    """A published architecture, or that of the embedded model.

    Raises:
        ModelError: There is none of that name, or this version cannot draw it.
    """
    names = architecture_names()
    if name in KNOWN:
        return folder_architecture(name, Path(find_model(name).path))
    if name in names:
        return Architecture(name=name, **json.loads((_SHIPPED / f"{name}.json").read_text()))
    if name in NOT_DRAWN:
        raise ModelError(f"--arch {name}: this version cannot draw it yet, use {', '.join(names)}")
    raise ModelError(f"--arch {name}: unknown{nearest(name, names)}, use {', '.join(names)}")


def folder_architecture(name: str, folder: Path) -> Architecture:
    """The architecture of a diffusers folder that `find_model` has accepted.

    Raises:
        ModelError: A configuration cannot be read.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text())
        configs = {part: json.loads((folder / path).read_text()) for part, path in _PARTS.items()}
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: cannot read its configuration: {error}") from error
    return Architecture(name, f"model {name}", "", str(index["_class_name"]), **configs)
