"""Where a model of a name lies on this machine: embedded, in a folder of models, or at a path.

What is named by its path is taken as it is; a bare name is looked up in `--models-dir` and
SDBATCH_MODELS first, for whoever names such a folder means what is in it.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.render.families.known import KNOWN
from sdbatch.render.families.known_models import SHORT
from sdbatch.render.weights.hub_address import hub_address
from sdbatch.render.weights.model_dirs import INDEX, models_dirs, near_names, resolve_name
from sdbatch.render.weights.single_file import is_single_file


def local_model(name: str, models_dir: str = "") -> Path | None:
    """The diffusers folder or the file of a name; None for a name of no model here.

    Args:
        name: As the user gave it.
        models_dir: Where bare names are looked up before SDBATCH_MODELS.

    Raises:
        ModelError: The name can only be that of a file or folder here, and is none of a model;
            or several models have it.
    """
    embedded = Path(str(resources.files("sdbatch"))) / "models" / name
    if name in KNOWN and embedded.is_dir():
        return embedded
    homes = models_dirs(models_dir)
    if not name.startswith((".", "~", "/")) and not Path(name).is_absolute():
        for home in homes:
            if os.path.isfile(home / name / INDEX):
                return (home / name).resolve()
            found = resolve_name(name, home)
            if found is not None:
                return found.absolute()
    path = Path(name).expanduser()
    if name in SHORT or not os.path.exists(
        path
    ):  # a folder of that name may be anything: ./NAME means it
        address = hub_address(name)
        if is_single_file(path) and not (address and address.file):  # else it is one of the Hub
            raise ModelError(f"model {name}: there is no such file{near_hint(name, models_dir)}")
        return None
    if (path / INDEX).is_file():
        return path.resolve()
    if path.is_dir():
        raise ModelError(f"model {name}: the folder has no {INDEX}, so no diffusers model")
    if not is_single_file(path):
        raise ModelError(
            f"model {name}: is a file, but no .safetensors: give a checkpoint or a diffusers folder"
        )
    return path.absolute()


def near_hint(name: str, models_dir: str = "") -> str:
    """`, did you mean 'x'?` for models in the folders of models, or nothing."""
    near = near_names(name, models_dirs(models_dir))
    return f", did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
