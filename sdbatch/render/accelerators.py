"""GPUs of every maker behind one small door: which are here, what they hold, when they are done.

torch gives CUDA (ROCm too), Apple's Metal (`mps`) and Intel's `xpu` modules of like names and
unlike completeness. What one cannot say is None here, and callers fall back to what they
do on a CPU. Metal shares memory with the host: its limit is what the system recommends.
"""

from __future__ import annotations

from typing import Any

import torch

from sdbatch.errors import InputError

CUDA, MPS, XPU, CPU = "cuda", "mps", "xpu", "cpu"
AUTO = "auto"
KINDS = (CUDA, MPS, XPU)
"""Accelerators in the order in which `auto` asks for them."""


def is_here(kind: str) -> bool:
    """Whether this process may use such a device."""
    if kind == MPS:
        return bool(torch.backends.mps.is_available())
    return kind == CPU or bool(_module(kind).is_available())


def devices_here() -> tuple[str, ...]:
    """Kinds that this process may use, the best first; the CPU is always among them."""
    return tuple(kind for kind in (*KINDS, CPU) if is_here(kind))


def choose_device(asked: str = AUTO) -> torch.device:
    """The device that was asked for, or the best one here.

    Args:
        asked: `auto`, or one of `KINDS` and `cpu`.

    Raises:
        InputError: There is none of that kind; those that there are, are named.
    """
    here = devices_here()
    if asked == AUTO:
        return torch.device(here[0])
    if asked in here:
        return torch.device(asked)
    raise InputError(f"--device {asked}: there is none here, use {' or '.join((AUTO, *here))}")


def free_and_total(device: torch.device) -> tuple[int, int] | None:
    """Bytes that nobody holds and bytes in all; None on a CPU."""
    if device.type == MPS:
        total = int(torch.mps.recommended_max_memory())
        return max(total - int(torch.mps.driver_allocated_memory()), 0), total
    if device.type == CPU:
        return None
    free, total = _module(device.type).mem_get_info(device)
    return int(free), int(total)


def held_bytes(device: torch.device) -> tuple[int, int] | None:
    """Bytes in tensors of this process, and bytes that torch keeps for them; None on a CPU."""
    if device.type == MPS:
        kept = int(torch.mps.driver_allocated_memory())
        return int(torch.mps.current_allocated_memory()), kept
    if device.type == CPU:
        return None
    module = _module(device.type)
    return int(module.memory_allocated(device)), int(module.memory_reserved(device))


def counts_peaks(device: torch.device) -> bool:
    """Whether torch remembers the most that was held there."""
    return device.type in (CUDA, XPU)


def reset_peak(device: torch.device) -> None:
    """Begin to count the most that is held; only where `counts_peaks`."""
    _module(device.type).reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The most that was held since then; only where `counts_peaks`."""
    return int(_module(device.type).max_memory_allocated(device))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked; a CPU always has."""
    if device.type == MPS:
        torch.mps.synchronize()
    elif device.type != CPU:
        _module(device.type).synchronize(device)


def empty_caches() -> None:
    """Give back what torch keeps on any device for later."""
    for kind in KINDS:
        if is_here(kind):
            _module(kind).empty_cache()


def device_name(device: torch.device) -> str:
    """As its maker calls it; empty where torch does not say."""
    if device.type in (CUDA, XPU):
        return str(_module(device.type).get_device_name(device))
    return str(torch.backends.mps.get_name()) if device.type == MPS else ""


def _module(kind: str) -> Any:
    """Torch's module of a kind of device."""
    return getattr(torch, kind)
