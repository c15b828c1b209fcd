"""Another autoencoder in place of a model's own: found, and held against it, without torch.

It must speak of the same latents: as many channels, as many pixels a cell, the same scale and
shift. What a configuration says is read there; a single file has none, so its shapes are
read from its header and everything else is taken from the model's own autoencoder.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.model_specs import VaeSpec
from sdbatch.records import ModelFacts
from sdbatch.render.fake import FAKE_PREFIX
from sdbatch.render.vae.vae_hub import vae_snapshot
from sdbatch.render.weights.folder_facts import read_json, vae_scale
from sdbatch.render.weights.hub_address import COMMIT, hub_address
from sdbatch.render.weights.hub_file import fetch_hub_file
from sdbatch.render.weights.model_dirs import PICKLES, SUFFIX
from sdbatch.render.weights.model_revision import file_digest, no_weights
from sdbatch.render.weights.safetensors_header import Header, read_header
from sdbatch.render.weights.single_file import model_folder

KIND = "AutoencoderKL"
PART = "vae"
_CONFIG = "config.json"
_SCALING_FACTOR, _SHIFT_FACTOR = 0.18215, 0.0  # of a configuration that says nothing
_UP_BLOCK = re.compile(r"(?:^|\.)decoder\.(?:up_blocks|up)\.(\d+)\.")
_CONV_IN = "decoder.conv_in.weight"


def find_vae(name: str, model: ModelFacts) -> VaeSpec | None:
    """Find an autoencoder by name and hold it against a model.

    Args:
        name: A folder, a `.safetensors` file, or `org/name` on the Hub; empty for none.
        model: Whose place of pictures it is to take.

    Raises:
        ModelError: It is not there, or speaks of other latents than the model.
    """
    if not name:
        return None
    if model.path.startswith(FAKE_PREFIX):
        raise ModelError(f"--vae {name}: model {model.name} has no autoencoder")
    place, commit = _place(name, weights=False)
    own = _own_config(model)
    kind = own.get("_class_name", KIND)
    if kind != KIND:
        raise ModelError(f"--vae {name}: model {model.name} draws with {kind}, only {KIND} is")
    wrong = _file_fault(place, own) if place.is_file() else _config_fault(place, own)
    if wrong:
        raise ModelError(f"--vae {name}: {wrong} of model {model.name}: use one made for it")
    return VaeSpec(name, str(place), commit or vae_revision(name, place))


def vae_place(spec: VaeSpec) -> Path:
    """Where this machine has the planned autoencoder, weights and all.

    Raises:
        ModelError: It is not here, or another revision of it is.
    """
    address = hub_address(spec.name)
    if address is not None and COMMIT.fullmatch(spec.revision):
        return _folder_in(spec.name, vae_snapshot(replace(address, revision=spec.revision)))
    place = Path(spec.path)
    if not place.exists():
        place, _ = _place(spec.name)
    here = vae_revision(spec.name, place)
    if here != spec.revision:
        raise ModelError(
            f"vae {spec.name}: {place} has revision {here[:12]}, the plan wants "
            f"{spec.revision[:12]}: use the same weights on every machine"
        )
    return place


def vae_revision(name: str, place: Path) -> str:
    """Hash over the configuration and weights of an autoencoder.

    Raises:
        ModelError: A file cannot be read.
    """
    total = hashlib.sha256(b"vae\n")
    files = [place] if place.is_file() else [place / _CONFIG, *_weights(name, place)]
    for path in files:
        try:
            total.update(file_digest(path, path.stat().st_size))
        except (OSError, struct.error) as error:
            raise ModelError(f"vae {name}: {path} cannot be read: {error}") from error
    return total.hexdigest()


def _place(name: str, weights: bool = True) -> tuple[Path, str]:
    """Its folder or file, and the commit of a folder on the Hub."""
    path = Path(name).expanduser()
    if path.suffix.lower() in PICKLES:
        raise ModelError(f"--vae {name}: a pickle can run code when opened: take a {SUFFIX}")
    if path.is_file() and path.suffix.lower() == SUFFIX:
        return path.absolute(), ""
    if path.is_dir():
        folder = _folder_in(name, path.absolute())
        _weights(name, folder)
        return folder, ""
    address = None if path.exists() else hub_address(name)
    if address is None:
        raise ModelError(f"--vae {name}: is no folder, no {SUFFIX} file and no id on the Hub")
    if address.file:
        return fetch_hub_file(address), ""
    snapshot = vae_snapshot(address, weights)
    return _folder_in(name, snapshot), snapshot.name


def _folder_in(name: str, path: Path) -> Path:
    """A VAE's folder: itself, or the one inside a whole model."""
    for folder in (path / PART, path):
        if (folder / _CONFIG).is_file():
            return folder
    raise ModelError(f"--vae {name}: {path} has no {_CONFIG}, so no diffusers autoencoder")


def _weights(name: str, folder: Path) -> list[Path]:
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise ModelError(f"--vae {name}: {folder} has {no_weights(any(folder.glob('*.bin')))}")
    return files


def _own_config(model: ModelFacts) -> Mapping[str, Any]:
    with model_folder(model.path, model.name) as folder:
        config = folder / PART / _CONFIG
        if not config.is_file():
            raise ModelError(f"--vae: model {model.name} has no autoencoder of its own")
        return read_json(model.name, config)


def _config_fault(place: Path, own: Mapping[str, Any]) -> str:
    """How the latents of a folder's autoencoder differ from the model's; empty if they do not."""
    config = read_json(str(place), place / _CONFIG)
    if config.get("_class_name", KIND) != KIND:
        return f"is of class {config['_class_name']}, not the {KIND}"
    for asked, now, was in (
        ("latent channels", config.get("latent_channels", 4), own.get("latent_channels", 4)),
        ("pixels a latent cell", vae_scale(config), vae_scale(own)),
        (
            "as scaling factor",
            *(_number(c, "scaling_factor", _SCALING_FACTOR) for c in (config, own)),
        ),
        ("as shift factor", *(_number(c, "shift_factor", _SHIFT_FACTOR) for c in (config, own))),
    ):
        if now != was:
            return f"has {now} {asked}, not the {was}"
    return ""


def _file_fault(place: Path, own: Mapping[str, Any]) -> str:
    """As `_config_fault`, from the shapes in a single file."""
    header = read_header(str(place), place)
    conv_in = _shape(header, _CONV_IN)
    if len(conv_in) != 4:
        return f"has no {_CONV_IN}, so it is not the kind of autoencoder"
    channels, widest = conv_in[1], conv_in[0]
    blocks = own["block_out_channels"]
    ups = [int(found[1]) for key in header.tensors if (found := _UP_BLOCK.search(key))]
    scale = 2 ** max(ups, default=0)
    for asked, now, was in (
        ("latent channels", channels, own.get("latent_channels", 4)),
        ("pixels a latent cell", scale, vae_scale(own)),
        ("channels in its widest layer", widest, blocks[-1]),
    ):
        if now != was:
            return f"has {now} {asked}, not the {was}"
    return ""


def _shape(header: Header, name: str) -> tuple[int, ...]:
    """Of a tensor under its name, with whatever a maker has put before it."""
    found = (key for key in header.tensors if key == name or key.endswith(f".{name}"))
    return header.shape(next(found, name))


def _number(config: Mapping[str, Any], key: str, usual: float) -> float:
    value = config.get(key)
    return usual if value is None else float(value)
