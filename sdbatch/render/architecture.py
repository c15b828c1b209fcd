"""Architectures by name: the shapes of a model without its weights.

Published ones ship as JSON beside this file, with their source; a model's folder has its
own. They are enough to say what a model would take of a machine, and with random weights
to measure it. Plain data: no torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.job import nearest
from sdbatch.records import RowDefaults
from sdbatch.render.families.known import KNOWN
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.weights.folder_facts import vae_scale
from sdbatch.render.weights.model_facts import find_model

Config = Mapping[str, Any]

_SHIPPED = Path(str(resources.files("sdbatch"))) / "render" / "architectures"
_SCHEDULER = "scheduler"
UNSHIPPED = ("sd3", "sd35", "flux", "pixart", "sana")
"""How names begin of models whose shapes do not come with the package."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The configurations of one model.

    Attributes:
        name: As the user gives it.
        title: For people.
        source: Who published it and where; empty for a folder's own.
        pipeline_class: diffusers' pipeline for it.
        parts: Configuration of each part but the tokenizers, by its folder.
        options: What its `model_index.json` says beside its parts.
    """

    name: str
    title: str
    source: str
    pipeline_class: str
    parts: Mapping[str, Config]
    options: Config = field(default_factory=dict)

    @property
    def denoiser(self) -> Config:
        """Configuration of room 2's model."""
        return self.parts[FAMILIES[self.pipeline_class].denoiser]

    @property
    def scheduler(self) -> Config:
        """Configuration of the model's own scheduler."""
        return self.parts[_SCHEDULER]

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        return vae_scale(self.parts["vae"])

    @property
    def defaults(self) -> RowDefaults:
        """What a row that says nothing asks for."""
        known = KNOWN.get(self.name, FAMILIES[self.pipeline_class].usual)
        cells = self.denoiser.get("sample_size") or 64
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
        return _shipped(name)
    if name.startswith(UNSHIPPED):
        raise ModelError(f"--arch {name}: its shapes do not ship, use {', '.join(names)}")
    raise ModelError(f"--arch {name}: unknown{nearest(name, names)}, use {', '.join(names)}")


def _shipped(name: str) -> Architecture:
    said = json.loads((_SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
    facts = {key: said.pop(key) for key in ("title", "source", "pipeline_class")}
    return Architecture(name=name, **facts, options=said.pop("index", {}), parts=said)


def folder_architecture(name: str, folder: Path) -> Architecture:
    """The architecture of a diffusers folder that `find_model` has accepted.

    Raises:
        ModelError: A configuration cannot be read.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        pipeline_class = str(index["_class_name"])
        parts = {
            part: json.loads((folder / part / _config_file(part)).read_text(encoding="utf-8"))
            for part in FAMILIES[pipeline_class].parts
            if not part.startswith("tokenizer")
        }
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: cannot read its configuration: {error}") from error
    options = {key: value for key, value in index.items() if isinstance(value, bool)}
    return Architecture(name, f"model {name}", "", pipeline_class, parts, options)


def _config_file(part: str) -> str:
    return "scheduler_config.json" if part == _SCHEDULER else "config.json"
