"""Which files of a model a renderer reads, chosen from a listing before any is fetched.

Of each part its configuration and its safetensors: never pickles, ONNX, Flax or a second
copy of the weights in another number format. Where a copy in half precision (`*.fp16.*`) is
chosen, `plain_name` says under which name a library finds it without being told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.render.weights.model_revision import HALF, WEIGHTLESS, index_parts, no_weights

INDEX = "model_index.json"
WORDS = "words.txt"

_SMALL = (".json", ".txt", ".model", ".jinja")
_WEIGHTS = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?"
    r"(?:-(?P<number>\d{5})-of-(?P<of>\d{5}))?(?:\.(?P<after>\w+))?\.safetensors",
    re.ASCII,
)
_SHARD_INDEX = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)\.safetensors\.index(?:\.(?P<variant>\w+))?\.json",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of a model that are read.

    Attributes:
        small: Configurations, tokenizers and lists of shards, by path in the model.
        weights: Weight files likewise.
        half: Whether any of them is the copy in half precision.
    """

    small: tuple[str, ...]
    weights: tuple[str, ...]
    half: bool

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.small, *self.weights)


def choose_files(name: str, paths: Iterable[str], index: Mapping[str, Any], half: bool) -> Choice:
    """Choose among the files of a model.

    Args:
        name: What messages call the model.
        paths: Every file, by its path in the model.
        index: The content of its `model_index.json`.
        half: Prefer a copy in half precision where a part has one.

    Raises:
        ModelError: A part has no weights, only pickles, or not all shards of them.
    """
    folders: dict[str, list[str]] = {}
    for path in sorted(paths):
        part, slash, file = path.rpartition("/")
        folders.setdefault(part if slash else "", []).append(file)
    small = [file for file in (INDEX, WORDS) if file in folders.get("", ())]
    weights: list[str] = []
    any_half = False
    for part, kind in index_parts(index).items():
        files = folders.get(part, [])
        small += [f"{part}/{file}" for file in files if _is_small(file)]
        if WEIGHTLESS.search(kind):
            continue
        chosen, lists, is_half = _weights_of(name, part, files, half)
        weights += [f"{part}/{file}" for file in chosen]
        small += [f"{part}/{file}" for file in lists]
        any_half |= is_half
    return Choice(tuple(small), tuple(weights), any_half)


def plain_name(path: str) -> str:
    """The name of a file without its variant; shards keep theirs, their list names them."""
    part, slash, file = path.rpartition("/")
    found = _WEIGHTS.fullmatch(file)
    if found and not found["number"]:
        file = f"{found['stem']}.safetensors"
    found = _SHARD_INDEX.fullmatch(file)
    if found:
        file = f"{found['stem']}.safetensors.index.json"
    return f"{part}{slash}{file}"


def _is_small(file: str) -> bool:
    return file.endswith(_SMALL) and ".index." not in file and not _SHARD_INDEX.fullmatch(file)


def _weights_of(
    name: str, part: str, files: list[str], half: bool
) -> tuple[list[str], list[str], bool]:
    """Weight files of a part, the lists of their shards, and whether they are a half copy."""
    found = {file: match for file in files if (match := _WEIGHTS.fullmatch(file))}
    by_variant: dict[str, list[str]] = {}
    for file, match in found.items():
        by_variant.setdefault(match["before"] or match["after"] or "", []).append(file)
    for variant in (HALF, "") if half else ("", HALF):
        if variant in by_variant:
            break
    else:
        pickled = any(file.endswith((".bin", ".ckpt", ".pt")) for file in files)
        raise ModelError(f"model {name}: {part}/ has {no_weights(pickled)}")
    chosen = by_variant[variant]
    numbers = {int(found[file]["number"]) for file in chosen if found[file]["number"]}
    wanted = max((int(found[file]["of"]) for file in chosen if found[file]["of"]), default=0)
    if numbers and len(numbers) < wanted:
        raise ModelError(f"model {name}: {part}/ has {len(numbers)} of {wanted} weight files")
    lists = [
        file
        for file in files
        if (match := _SHARD_INDEX.fullmatch(file)) and (match["variant"] or "") == variant
    ]
    return chosen, lists, variant == HALF
