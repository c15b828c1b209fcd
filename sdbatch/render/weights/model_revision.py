"""Which parts and weights a model in a folder has, and one hash of them, without torch.

Parts are those that `model_index.json` names and a renderer reads: each family has its own.
Small files are hashed whole. Of large ones the size, the safetensors header and both ends
enter: a retrained or converted file differs in them, and a plan is made in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.render.weights.model_json import read_json

PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
"""Of Stable Diffusion; their order is that of the hash, parts of other families follow."""
MIB = 2**20
WHOLE_BELOW = 64 * MIB
CONVERT = "save_pretrained(..., safe_serialization=True)"

_UNREAD = frozenset({"safety_checker", "feature_extractor"})
_PROMPTED_BY_TEXT = ("StableDiffusion", "Flux")
_PART = re.compile(r"\w+", re.ASCII)
_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)
HALF = "fp16"
WEIGHTLESS = re.compile(r"Tokenizer|Scheduler|Processor|FeatureExtractor")
"""Classes of parts that are configuration alone."""


def parts_of(folder: Path) -> tuple[str, ...]:
    """Folders of a model that a renderer reads, as its `model_index.json` names them.

    A safety checker is none of them (`safety` is a scorer of its own), nor is what only
    picture prompts need. A folder without an index is taken for Stable Diffusion.
    """
    return tuple(_classes(folder))


def weighted_parts(folder: Path) -> tuple[str, ...]:
    """Those of `parts_of` that hold weights, not only configuration."""
    return tuple(part for part, kind in _classes(folder).items() if not WEIGHTLESS.search(kind))


def index_parts(index: Mapping[str, Any]) -> dict[str, str]:
    """Part to its class, of the content of a `model_index.json`; see `parts_of`."""
    unread = set(_UNREAD)
    if str(index.get("_class_name")).startswith(_PROMPTED_BY_TEXT):
        unread.add("image_encoder")
    found = {
        name: str(value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(value) and _PART.fullmatch(name)
    }
    order = [*(part for part in PARTS if part in found), *sorted(found.keys() - {*PARTS})]
    return {name: found[name] for name in order if name not in unread}


def _classes(folder: Path) -> dict[str, str]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    found = index_parts(index) if isinstance(index, dict) else {}
    return found or dict(zip(PARTS, ("Tokenizer", "", "", "", "Scheduler"), strict=True))


def weight_files(name: str, folder: Path) -> list[Path]:
    """The weights of a model that are read, in a fixed order.

    Raises:
        ModelError: A part has none, or only as pickles.
    """
    found: list[Path] = []
    for part in weighted_parts(folder):
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            pickled = any((folder / part).glob("*.bin"))
            raise ModelError(f"model {name}: {part}/ has {no_weights(pickled)}")
        found += [path for path in files if not _is_half(path)] or files
    return found


def variant_of(part: Path) -> str | None:
    """What a library must be told to find a part's weights: of those that have no other copy."""
    files = list(part.glob("*.safetensors"))
    return HALF if files and all(_is_half(path) for path in files) else None


def _is_half(path: Path) -> bool:
    return f".{HALF}." in path.name or f".{HALF}-" in path.name


def check_shards(name: str, folder: Path, whole: bool) -> None:
    """Hold the lists of sharded weights against what may lie, and lies, beside them.

    A library joins their names to the folder, wherever that leads: what is outside of it is
    in no hash of the model, and what is no safetensors could be a pickle.

    Args:
        whole: The weights are here, so all that is listed must be.

    Raises:
        ModelError: A list names something else than safetensors beside it, or what is missing.
    """
    for part in weighted_parts(folder):
        for path in sorted((folder / part).glob("*.safetensors.index*.json")):
            listed = {str(file) for file in _weight_map(name, path).values()}
            for file in sorted(listed):
                if not _SHARD.fullmatch(file):
                    raise ModelError(f"model {name}: {path} lists {file!r}, no file beside it")
            alone = path.with_name(path.name.partition(".index")[0]).is_file()
            lost = [file for file in sorted(listed) if not (path.parent / file).is_file()]
            if whole and lost and not alone and path.name.endswith(".index.json"):
                raise ModelError(
                    f"model {name}: {part}/ has {len(listed) - len(lost)} of {len(listed)} weight "
                    f"files, {lost[0]} is not there: copy or download it again"
                )


def _weight_map(name: str, path: Path) -> Mapping[str, Any]:
    found = read_json(name, path).get("weight_map")
    if not isinstance(found, Mapping):
        raise ModelError(f"model {name}: {path} has no weight_map: copy or download it again")
    return found


def no_weights(pickled: bool) -> str:
    """Why a part cannot be loaded, and how it could be."""
    if pickled:
        return f"only .bin weights, which can run code when opened: save it again with {CONVERT}"
    return "no .safetensors weights"


def local_revision(name: str, folder: Path) -> str:
    """Hash over the files a renderer reads: configuration, tokenizer and weights.

    Raises:
        ModelError: A file cannot be read, or a weight file is damaged.
    """
    total = hashlib.sha256()
    for path in _hashed(folder):
        try:
            size = path.stat().st_size
            total.update(f"{path.relative_to(folder).as_posix()}\n{size}\n".encode())
            total.update(file_digest(path, size))
        except (OSError, struct.error) as error:
            raise ModelError(f"model {name}: {path} cannot be read: {error}") from error
    return total.hexdigest()


def _hashed(folder: Path) -> Iterator[Path]:
    yield folder / "model_index.json"
    for part in parts_of(folder):
        for path in sorted(path for path in (folder / part).glob("*") if path.is_file()):
            if path.suffix in (".json", ".txt", ".safetensors", ".model"):
                yield path


def file_digest(path: Path, size: int) -> bytes:
    """Hash of one file: of all of it, or of what tells large ones apart."""
    with path.open("rb") as file:
        if size < WHOLE_BELOW:
            return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256()
        if path.suffix == ".safetensors":
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            digest.update(file.read(min(header_bytes, WHOLE_BELOW)))
        file.seek(0)
        digest.update(file.read(MIB))
        file.seek(-MIB, 2)
        digest.update(file.read(MIB))
        return digest.digest()
