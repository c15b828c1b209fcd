"""The header of a safetensors file: names, shapes and metadata, read without torch.

A file begins with the length of its header (8 bytes, little-endian), then the header, JSON;
numbers follow (https://huggingface.co/docs/safetensors). Whatever is not so, or shorter than
its header says, is refused here, for a plan must not find out on the GPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdbatch.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
"""What the safetensors library itself takes at most."""
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry: number type as the file says it, shape, and where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors by name, and what its maker wrote beside them."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; empty where it is not there."""
        found = self.tensors.get(name)
        return found.shape if found else ()

    def numbers(self, name: str) -> np.ndarray | None:
        """The numbers of a small tensor in float64; None where they cannot be read."""
        tensor = self.tensors[name]
        kind = _NUMPY.get(tensor.dtype)
        if kind is None:
            return None
        try:
            with self.path.open("rb") as file:
                file.seek(tensor.begin)
                raw = np.frombuffer(file.read(tensor.end - tensor.begin), dtype=kind)
        except OSError:
            return None
        if tensor.dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float64).reshape(tensor.shape)


def read_header(name: str, path: Path) -> Header:
    """Read the header of a file and hold it against the file's size.

    Args:
        name: What messages call the model.

    Raises:
        ModelError: It is no safetensors file, is cut off, or cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(8)
            length = int.from_bytes(begin, "little")
            fault = _begin_fault(begin, length, size)
            text = b"" if fault else file.read(length)
    except OSError as error:
        raise ModelError(f"model {name}: {path}: {error.strerror or error}") from error
    if fault:
        raise ModelError(f"model {name}: {path} {fault}")
    try:
        found = json.loads(text, object_pairs_hook=_once_each)
        said = found.pop("__metadata__", None) or {}
        metadata = {str(key): str(value) for key, value in said.items()}
        first = 8 + length
        tensors = {key: _tensor(value, first) for key, value in found.items()}
    except _BROKEN as error:
        raise ModelError(
            f"model {name}: {path} has a damaged header: copy or download it again"
        ) from error
    if not tensors:
        raise ModelError(f"model {name}: {path} holds no tensors")
    needed = max(tensor.end for tensor in tensors.values())
    if needed > size:
        raise ModelError(
            f"model {name}: {path} is cut off: it has {size:,} of {needed:,} bytes, "
            "copy or download it again"
        )
    return Header(path, tensors, metadata)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different: which of two tensors is meant nobody knows."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _tensor(entry: Mapping[str, Any], first: int) -> Tensor:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = tuple(int(side) for side in entry["shape"])
    dtype = str(entry["dtype"])
    if not 0 <= begin <= end or any(side < 0 for side in shape):
        raise ValueError("offsets out of order, or a shape that is none")
    kind = _NUMPY.get(dtype)
    if kind and math.prod(shape) * np.dtype(kind).itemsize != end - begin:
        raise ValueError("a tensor's bytes are not those of its shape")
    return Tensor(dtype, shape, first + begin, first + end)


def _begin_fault(begin: bytes, length: int, size: int) -> str:
    """Why a file cannot be safetensors, from its first bytes; nothing when it can."""
    if size == 0:
        return "is empty: copy or download it again"
    if begin.startswith(b"version "):
        return "is a Git LFS pointer, not the weights: run `git lfs pull` in its folder"
    if begin.lstrip()[:1] == b"<":
        return "is a web page, not the weights: download it again, logged in if it is gated"
    if begin.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "is a pickle under another name, which can run code when opened: convert it"
    if size < 8 or length > MAX_HEADER_BYTES:
        return "is no safetensors file"
    if 8 + length > size:
        return f"is cut off: its header alone has {length:,} bytes, the file has {size:,}"
    return ""
