"""Which weights a local model has, as one hash, without reading gigabytes.

Small files are hashed whole. Of large ones the size, the safetensors header and both ends
enter: a retrained or converted file differs in them, and a plan is made in milliseconds.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from sdbatch.errors import ModelError

PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
WEIGHTED_PARTS = ("text_encoder", "unet", "vae")
MIB = 2**20
WHOLE_BELOW = 64 * MIB


def weight_files(name: str, folder: Path) -> list[Path]:
    """The weights of a model, in a fixed order.

    Raises:
        ModelError: A part has none, or only as pickles.
    """
    found: list[Path] = []
    for part in WEIGHTED_PARTS:
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            pickled = any((folder / part).glob("*.bin"))
            reason = (
                "only .bin weights, which can run code when opened: save it again with "
                "save_pretrained(..., safe_serialization=True)"
                if pickled
                else "no .safetensors weights"
            )
            raise ModelError(f"model {name}: {part}/ has {reason}")
        found += files
    return found


def local_revision(name: str, folder: Path) -> str:
    """Hash over the files a renderer reads: configuration, tokenizer and weights.

    Raises:
        ModelError: A file cannot be read, or a weight file is damaged.
    """
    files = [folder / "model_index.json"]
    for part in PARTS:
        files += sorted(path for path in (folder / part).glob("*") if path.is_file())
    total = hashlib.sha256()
    for path in files:
        if path.suffix not in (".json", ".txt", ".safetensors", ".model"):
            continue
        try:
            size = path.stat().st_size
            total.update(f"{path.relative_to(folder).as_posix()}\n{size}\n".encode())
            total.update(file_digest(path, size))
        except (OSError, struct.error) as error:
            raise ModelError(f"model {name}: {path} cannot be read: {error}") from error
    return total.hexdigest()


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
