"""Bytes: what a run would hold at its fullest, and what a device has free.

A run on the meta device computes nothing, and every tensor that lives in it is added up. What
kernels take for themselves is not seen there, and a margin stands for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sdbatch.render.accelerators import free_and_total

MARGIN = 1.25
GB = 1e9
CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take there."""
    room = free_and_total(device)
    if room is not None:
        return room[0]
    free = int(psutil.virtual_memory().available)
    try:  # a container has less than its host
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def fullest(run: Callable[[], object]) -> int:
    """Bytes of tensors that a run on the meta device holds at its fullest."""
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
