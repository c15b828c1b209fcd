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
from sdbatch.records import RenderEnv, RenderRow
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

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names in malloc.h
KEPT_BYTES = 256 * 2**20
LARGEST_KEPT_BYTES = 32 * 2**20  # the most that glibc takes

OTHERS_GIB = 1.0  # what a context of our own and a desktop may take unmentioned


def choose_device() -> torch.device:
    """The GPU this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(asked: str, device: torch.device) -> str:
    """What `auto` becomes: float32 on a CPU, the better half format on a GPU.

    Raises:
        ModelError: No such number format.
    """
    if asked != "auto":
        if asked not in DTYPES:
            raise ModelError(f"dtype '{asked}': use one of auto, {', '.join(DTYPES)}")
        return asked
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


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
    return isinstance(error, RuntimeError) and ("can't allocate" in text or "out of memory" in text)


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
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def others_on(device: torch.device) -> tuple[str, ...]:
    """A line when other processes hold memory of the device; ask before loading anything.

    It is no reason to refuse: a desktop lives on the card of many a laptop.
    """
    if device.type != "cuda":
        return ()
    free, total = torch.cuda.mem_get_info(device)
    held_gib = (total - free - torch.cuda.memory_reserved(device)) / 2**30
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
