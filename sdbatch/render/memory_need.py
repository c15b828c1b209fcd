"""Will it fit? Said before anything is loaded, in bytes.

Weights are counted, and so is what a pass and a decode hold at their fullest: both run
once on the meta device while every tensor that lives is added up. What kernels take for
themselves is not seen there, and a margin stands for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sdbatch.errors import InputError
from sdbatch.render.architecture import Architecture, architecture_names, find_architecture
from sdbatch.render.device import DTYPES
from sdbatch.render.flops import run_unet
from sdbatch.render.image_decoder import chunk_size
from sdbatch.render.random_model import Modules, make_modules
from sdbatch.render.text_encoder import CACHE_BYTES

MARGIN = 1.25
GB = 1e9
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a model takes while it draws.

    Attributes:
        weights: Of all three models.
        denoise: What one pass holds at its fullest.
        decode: What one decode holds at its fullest.
    """

    weights: int
    denoise: int
    decode: int

    @property
    def total(self) -> int:
        """Weights, and the fuller of the two with a margin for kernels; kept embeddings."""
        return int(self.weights + MARGIN * max(self.denoise, self.decode)) + CACHE_BYTES


def memory_need(
    modules: Modules,
    architecture: Architecture,
    dtype: torch.dtype,
    num_lanes: int,
    size: tuple[int, int],
) -> MemoryNeed:
    """Count what drawing pictures of `size` (width, height) takes.

    Args:
        modules: The architecture on the meta device, in `dtype`.
    """
    width, height = size
    cells = (height // architecture.scale, width // architecture.scale)
    channels = int(modules.vae.config.latent_channels)
    latents = torch.empty(chunk_size(width, height), channels, *cells, device="meta", dtype=dtype)
    return MemoryNeed(
        weights=sum(modules.counts().values()) * dtype.itemsize,
        denoise=_fullest(lambda: run_unet(modules, num_lanes, cells, architecture.embeds_shape)),
        decode=_fullest(lambda: modules.vae.decode(latents, return_dict=False)),
    )


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take there."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:  # a container has less than its host
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def check_fits(
    architecture: Architecture,
    need: MemoryNeed,
    dtype: str,
    num_lanes: int,
    size: tuple[int, int],
    device: torch.device,
) -> None:
    """Refuse what the device has no memory for.

    Raises:
        InputError: It does not fit; what would is named.
    """
    free = free_bytes(device)
    if need.total <= free:
        return
    place = "the GPU" if device.type == "cuda" else "this host"
    fitting = " or ".join(_fitting(architecture, dtype, num_lanes, size, free))
    raise InputError(
        f"{architecture.name} as {dtype} with {num_lanes} lanes at {size[0]}x{size[1]} needs "
        f"{need.total / GB:.1f} GB ({need.weights / GB:.1f} GB of weights), {place} has "
        f"{free / GB:.1f} GB free: {f'use {fitting}' if fitting else 'nothing smaller fits'}"
    )


def _fitting(
    architecture: Architecture, dtype: str, num_lanes: int, size: tuple[int, int], free: int
) -> list[str]:
    """What to ask for instead: a smaller number format, and a smaller architecture."""
    found = []
    if DTYPES[dtype].itemsize > 2 and (total := _total(architecture, "bfloat16", num_lanes, size)):
        found += [f"--dtype bfloat16 ({total / GB:.1f} GB)"] if total <= free else []
    for name in architecture_names():
        other = find_architecture(name)
        at = (other.defaults.width, other.defaults.height)
        total = 0 if name == architecture.name else _total(other, dtype, 2, at)
        if 0 < total <= free:
            return [*found, f"--arch {name} --random-weights ({total / GB:.1f} GB)"]
    return found


def _total(architecture: Architecture, dtype: str, num_lanes: int, size: tuple[int, int]) -> int:
    modules = make_modules(architecture, torch.device("meta"), DTYPES[dtype])
    return memory_need(modules, architecture, DTYPES[dtype], num_lanes, size).total


def _fullest(run: Callable[[], object]) -> int:
    with torch.inference_mode(), _NoScores(), _Living() as living:
        run()
    return int(living.most)


class _NoScores(TorchFunctionMode):
    """Attention as its kernels do it: without a matrix of scores in memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`; attention gives its output at once."""
        if func is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else kwargs["query"])
        return func(*args, **(kwargs or {}))


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all tensors made inside, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` and count what it made."""
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        size_bytes = storage.nbytes()
        self._known.add(storage)
        self._now += size_bytes
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._forget, size_bytes)

    def _forget(self, size_bytes: int) -> None:
        self._now -= size_bytes
