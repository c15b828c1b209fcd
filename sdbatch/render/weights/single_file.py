"""A checkpoint in one file, seen as a diffusers folder whose weights lie elsewhere.

For a moment a folder is made of its configurations and tokenizers, with a line that says
where the weights are. All that reads diffusers folders reads this one; only
`families/rooms.py: load_part` must know that the weights come from the one file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.records import ModelFacts
from sdbatch.render.weights.folder_facts import folder_facts
from sdbatch.render.weights.model_dirs import PICKLES, SUFFIX
from sdbatch.render.weights.model_revision import file_digest, local_revision, parts_of
from sdbatch.render.weights.safetensors_header import Header, read_header
from sdbatch.render.weights.single_file_configs import clip_files, folder_beside, shipped_configs
from sdbatch.render.weights.single_file_kind import demand_whole, kind_of
from sdbatch.render.weights.single_file_prediction import prediction_of

POINTER = "weights.txt"
"""File of a folder that says in which one file the weights of all its parts lie."""
MADE = "sdbatch-model-"
"""Begins the names of folders made here: in any other the pointer is a stranger's file."""


def is_single_file(path: str | Path) -> bool:
    """Whether a path names a file of a model, of whatever format."""
    return Path(path).suffix.lower() in (SUFFIX, *PICKLES) and not Path(path).is_dir()


def place_revision(name: str, path: Path) -> str:
    """Which weights lie at a path, a diffusers folder's or one file's, as one hash.

    Raises:
        ModelError: They cannot be read, or are no whole model.
    """
    return single_file_revision(name, path) if is_single_file(path) else local_revision(name, path)


def model_facts_at(name: str, path: Path) -> ModelFacts:
    """What a plan must know of the model that lies at a path, a diffusers folder or one file.

    Raises:
        ModelError: It is no whole model, is damaged, or this version cannot draw with it.
    """
    revision = place_revision(name, path)
    if not is_single_file(path):
        return folder_facts(name, path, revision)
    size = path.stat().st_size
    with model_folder(path, name) as folder:
        return replace(folder_facts(name, folder, revision, size), path=str(path))


def single_file_revision(name: str, path: Path) -> str:
    """Hash of the weights and of what they are drawn with; the file's name and place are not in it.

    Raises:
        ModelError: The file cannot be read, or is no whole model.
    """
    header = _header(name, path)
    beside = folder_beside(path)
    total = hashlib.sha256()
    if beside is None:
        kind = kind_of(name, header)
        prediction = prediction_of(name, header, kind)
        total.update(f"{kind.name} {prediction.type} {prediction.zero_snr}\n".encode())
    else:
        total.update(local_revision(name, beside).encode())
    try:
        size = path.stat().st_size
        total.update(f"{size}\n".encode() + file_digest(path, size))
    except (OSError, struct.error) as error:
        raise ModelError(f"model {name}: {path} cannot be read: {error}") from error
    return total.hexdigest()


@contextmanager
def model_folder(path: str | Path, name: str = "") -> Iterator[Path]:
    """A diffusers folder of a model: itself, or for a file one that lasts as long as the block.

    Args:
        path: A diffusers folder, or a checkpoint in one file.
        name: What messages call it; empty for the path.

    Raises:
        ModelError: It is no whole model, or the folder cannot be made.
    """
    there = Path(path)
    if not is_single_file(there):
        yield there
        return
    with tempfile.TemporaryDirectory(prefix=MADE) as made:
        folder = Path(made)
        try:
            _fill(folder, name or str(path), there)
            yield folder
        except ModelError as error:  # its reader was told of a folder that nobody knows
            raise ModelError(str(error).replace(made, str(there))) from error


def weights_of(folder: Path) -> Path | None:
    """The one file in which a folder's weights lie; None for a folder that has its own."""
    if not folder.name.startswith(MADE):
        return None
    return Path((folder / POINTER).read_text(encoding="utf-8"))


def _header(name: str, path: Path) -> Header:
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"model {name}: {path} is a pickle, which can run code when opened: take the "
            ".safetensors of the same model, or convert it where you trust it (`torch.load`, then "
            "`safetensors.torch.save_file`)"
        )
    header = read_header(name, path)
    demand_whole(name, header)
    return header


def _fill(folder: Path, name: str, path: Path) -> None:
    header = _header(name, path)
    beside = folder_beside(path)
    try:
        if beside is None:
            _fill_shipped(folder, name, header)
        else:
            _fill_beside(folder, beside)
        (folder / POINTER).write_text(str(path.absolute()), encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"model {name}: its configuration cannot be laid out in {folder}: "
            f"{error.strerror or error}"
        ) from error


def _fill_shipped(folder: Path, name: str, header: Header) -> None:
    kind = kind_of(name, header)
    prediction = prediction_of(name, header, kind)
    for file, content in shipped_configs(name, kind, prediction, header).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for tokenizer in folder.glob("*/tokenizer_config.json"):
        for file, text in clip_files().items():
            (tokenizer.parent / file).write_text(text, encoding="utf-8")


def _fill_beside(folder: Path, beside: Path) -> None:
    """Copy the small files of a configuration: never weights that lie there as well."""
    shutil.copy(beside / "model_index.json", folder)
    for words in beside.glob("words.txt"):
        shutil.copy(words, folder)
    for part in parts_of(beside):
        if (beside / part).is_dir():
            (folder / part).mkdir()
            for file in (beside / part).iterdir():
                if file.suffix in (".json", ".txt", ".model"):
                    shutil.copy(file, folder / part)
