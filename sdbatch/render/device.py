"""The device: which one, how exact, and what its errors mean.

Everything that must be set on torch itself is set here: threads, deterministic kernels,
the choice of a number format. The flags keep a row's pixels the same from run to run.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import traceback

import diffusers
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderEnv
from sdbatch.records import RenderRow
from sdbatch.render.accelerators import choose_device as choose_device
from sdbatch.render.accelerators import device_name, empty_caches, free_and_total, held_bytes
from sdbatch.render.processor import processor_name
from sdbatch.results import RowFailure

PASS_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    MemoryError,
    OSError,
)
"""What a model may raise over one row; anything else is no row's fault."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

NO_MEMORY = (
    "can't allocate",  # CPU
    "out of memory",  # CUDA, Metal, XPU
    "Invalid buffer size",  # Metal: more than one buffer may hold
    *("OUT_OF_DEVICE_MEMORY", "OUT_OF_HOST_MEMORY", "OUT_OF_RESOURCES"),  # Level Zero below XPU
)
"""What errors without a class of their own say when memory has run out."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names in malloc.h
KEPT_BYTES = 256 * 2**20
LARGEST_KEPT_BYTES = 32 * 2**20  # the most that glibc takes

OTHERS_GIB = 1.0  # what a context of our own and a desktop may take unmentioned


def choose_dtype(asked: str, device: torch.device) -> str:
    """What `auto` becomes: float32 on a CPU, the better half format on a GPU.

    On Apple's GPUs half numbers are tried before they are trusted, `half_probe.py`.

    Raises:
        ModelError: No such number format.
    """
    if asked != "auto":
        if asked not in DTYPES:
            raise ModelError(f"dtype '{asked}': use one of auto, {', '.join(DTYPES)}")
        return asked
    if device.type in ("cuda", "xpu"):
        return "bfloat16" if getattr(torch, device.type).is_bf16_supported() else "float16"
    return "float16" if device.type == "mps" else "float32"


def be_exact() -> None:
    """Ask torch for the same kernels every time, at the cost of some speed on GPUs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid of the line above that costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def keep_freed_memory() -> None:
    """Let a CPU's pass take again what the last one freed, instead of new pages each time.

    glibc hands large blocks back to the system, which then fills every page with zeros once
    more: a tenth of a pass. It is told to keep up to `KEPT_BYTES`; nowhere else is it asked.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def use_threads(count: int) -> None:
    """Let torch compute with `count` threads in the calling thread.

    The setting belongs to the thread that makes it, and a convolution's result depends
    on it in the last bits.
    """
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)


def is_broken(error: BaseException) -> bool:
    """Whether the device itself failed: every later call on it would fail as well."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def failure_of(row: RenderRow, error: BaseException) -> RowFailure:
    """A row's failure, in words: nothing of the exception itself is kept."""
    lines = "".join(traceback.format_exception(error))
    return RowFailure(row, type(error).__name__, str(error), lines)


def free_memory() -> None:
    """Give back what torch holds for later."""
    gc.collect()
    empty_caches()


def others_on(device: torch.device) -> tuple[str, ...]:
    """A line when other processes hold memory of the device; ask before loading anything.

    It is no reason to refuse: a desktop lives on the card of many a laptop.
    """
    room, held = free_and_total(device), held_bytes(device)
    if device.type == "mps" or room is None or held is None:
        return ()  # Metal counts this process alone
    free, total = room
    held_gib = (total - free - held[1]) / 2**30
    if held_gib < OTHERS_GIB:
        return ()
    return (f"other processes hold {held_gib:.1f} of {total / 2**30:.1f} GiB on {device}",)


def describe(device: torch.device, dtype: str, pipeline_class: str, cpu_threads: int) -> RenderEnv:
    """What pixels depend on beside the plan."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = properties.name
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        kernels = (
            f"sm{properties.major}{properties.minor}x{properties.multi_processor_count} "
            f"cuda {torch.version.cuda} cudnn {cudnn}"
        )
    elif device.type in ("mps", "xpu"):
        name, kernels = device_name(device), f"{device.type} {platform.platform(terse=True)}"
    else:
        name = processor_name()
        kernels = f"{torch.backends.cpu.get_cpu_capability()} threads {cpu_threads}"
    return RenderEnv(
        device=device.type,
        device_name=name,
        dtype=dtype,
        pipeline_class=pipeline_class,
        torch_version=torch.__version__,
        diffusers_version=diffusers.__version__,
        kernels=kernels,
    )
