"""Configurations and tokenizers that a checkpoint in one file comes without.

Those of SD 1.x, 2.x and SDXL ship with the package (`checkpoints/README.md`); for any other
family, or a model of unusual shape, a folder `STEM.config` beside the file holds them, as
`save_pretrained` lays them out, and is taken before ours.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.render.weights.model_dirs import CONFIG_SUFFIX
from sdbatch.render.weights.safetensors_header import Header
from sdbatch.render.weights.single_file_kind import SD21, Kind
from sdbatch.render.weights.single_file_prediction import VELOCITY, Prediction

_HOME = Path(str(resources.files("sdbatch"))) / "render"
_MERGES = _HOME / "checkpoints" / "clip_merges.txt.gz"
END, BEGIN, EXCLAMATION = "<|endoftext|>", "<|startoftext|>", "!"
_PADDING = {
    ("sd15", "tokenizer"): END,
    ("sd21", "tokenizer"): EXCLAMATION,
    ("sdxl", "tokenizer"): END,
    ("sdxl", "tokenizer_2"): EXCLAMATION,
    ("sdxl-refiner", "tokenizer_2"): EXCLAMATION,
}
"""What fills a prompt up: OpenCLIP's encoders were trained with id 0, which is `!`."""
_CLASSES = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
_BASE_SIZE = 512
CLIP_TOKENS = 77


def folder_beside(path: Path) -> Path | None:
    """The folder that holds a file's own configuration, if there is one."""
    folder = path.with_suffix(CONFIG_SUFFIX)
    return folder if (folder / "model_index.json").is_file() else None


def shipped_configs(
    name: str, kind: Kind, prediction: Prediction, header: Header
) -> dict[str, Mapping[str, Any]]:
    """Path in a diffusers folder to the content of its JSON file, for a kind that ships.

    Raises:
        ModelError: Its configurations do not ship; the text says how to fetch them.
    """
    source = _shipped(kind)
    if source is None:
        beside = header.path.with_suffix(CONFIG_SUFFIX)
        raise ModelError(
            f"model {name}: is {kind.title} in one file, whose configuration and tokenizers do "
            f"not come with sdbatch: `hf download {kind.repo} --include '*.json' '*.txt' "
            f"'*.model' --local-dir {beside}` puts them beside it"
        )
    files: dict[str, Mapping[str, Any]] = {}
    index: dict[str, Any] = {"_class_name": source["pipeline_class"], **source.get("index", {})}
    for part, (library, class_name) in _CLASSES.items():
        if part in source:
            index[part] = [library, class_name]
            files[f"{part}/config.json"] = {"_class_name": class_name, **source[part]}
    for (owner, part), padding in _PADDING.items():
        if owner == kind.name:
            index[part] = ["transformers", "CLIPTokenizer"]
            files[f"{part}/tokenizer_config.json"] = _tokenizer_config(padding)
    scheduler = _scheduler(source["scheduler"], prediction)
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    files["scheduler/scheduler_config.json"] = scheduler
    cells = _sample_size(kind, prediction, header, source["unet"]["sample_size"])
    files["unet/config.json"] = {**files["unet/config.json"], "sample_size": cells}
    return {"model_index.json": index, **files}


@lru_cache(maxsize=1)
def clip_files() -> Mapping[str, str]:
    """File name to content of CLIP's tokenizer, `vocab.json` and `merges.txt`.

    The vocabulary follows from the merges, as in OpenAI's `simple_tokenizer.py`: 256 bytes,
    the same at the end of a word, one entry a merge, and two marks.
    """
    lines = gzip.decompress(_MERGES.read_bytes()).decode().splitlines()
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [line.replace(" ", "") for line in lines]
    vocab = {word: number for number, word in enumerate([*words, BEGIN, END])}
    merges = "\n".join(["#version: 0.2", *lines, ""])
    return {"vocab.json": json.dumps(vocab, ensure_ascii=False), "merges.txt": merges}


def _byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, in the order of GPT-2's byte-level BPE."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def _shipped(kind: Kind) -> dict[str, Any] | None:
    for folder in ("checkpoints", "architectures"):
        path = _HOME / folder / f"{kind.name}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return None


def _tokenizer_config(padding: str) -> dict[str, Any]:
    marks = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": padding}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_TOKENS, **marks}


def _scheduler(config: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
    changed = {**config, "prediction_type": prediction.type}
    if prediction.zero_snr:
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changed


def _sample_size(
    kind: Kind, prediction: Prediction, header: Header, usual: int | list[int]
) -> int | list[int]:
    """Latent cells of a picture: as the metadata say, else as the family is drawn with."""
    said = header.metadata.get("modelspec.resolution", "").lower().split("x")
    if len(said) == 2 and all(
        side.isdecimal() and int(side) in range(256, 4097, 8) for side in said
    ):
        width, height = (int(side) // 8 for side in said)
        return width if width == height else [height, width]
    if kind is SD21 and prediction.type != VELOCITY:  # 2.x base was trained at 512
        return _BASE_SIZE // 8
    return usual
