"""Devices that are not here: torch's modules are stood in for, and each way of asking is taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from sdbatch.errors import InputError, ModelError
from sdbatch.render import accelerators
from sdbatch.render.device import choose_dtype, describe, free_memory, is_out_of_memory, others_on
from sdbatch.render.memory import peak_memory
from sdbatch.render.memory.memory_need import free_bytes
from sdbatch.render.speed import find_compiler
from tests.render.drawing import make_row

GIB = 2**30
CPU, MPS, XPU = (torch.device(kind) for kind in ("cpu", "mps", "xpu"))


class Said(list):
    """What a stand-in was asked, in order."""

    def noting(self, name, value=None):
        return lambda *_: (self.append(name), value)[1]


@pytest.fixture
def said():
    return Said()


@pytest.fixture
def mps(monkeypatch, said):
    """A Mac with 16 GiB for its GPU."""
    module = SimpleNamespace(
        recommended_max_memory=lambda: 16 * GIB,
        driver_allocated_memory=lambda: 3 * GIB,
        current_allocated_memory=lambda: 2 * GIB,
        empty_cache=said.noting("mps.empty_cache"),
        synchronize=said.noting("mps.synchronize"),
        is_available=lambda: True,
    )
    monkeypatch.setattr(torch, "mps", module)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M9")


@pytest.fixture
def xpu(monkeypatch, said):
    """An Intel GPU of 24 GiB, of which others hold 4."""
    module = SimpleNamespace(
        is_available=lambda: True,
        is_bf16_supported=lambda: True,
        mem_get_info=lambda _: (18 * GIB, 24 * GIB),
        memory_allocated=lambda _: GIB,
        memory_reserved=lambda _: 2 * GIB,
        max_memory_allocated=lambda _: 5 * GIB,
        reset_peak_memory_stats=said.noting("xpu.reset"),
        empty_cache=said.noting("xpu.empty_cache"),
        synchronize=said.noting("xpu.synchronize"),
        get_device_name=lambda _: "Arc B9",
    )
    monkeypatch.setattr(torch, "xpu", module)


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_without_an_accelerator_everything_is_the_cpu():
    assert accelerators.devices_here() == ("cpu",)
    assert accelerators.choose_device("auto") == accelerators.choose_device("cpu") == CPU
    assert accelerators.free_and_total(CPU) is accelerators.held_bytes(CPU) is None
    accelerators.synchronize(CPU)
    accelerators.empty_caches()


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_a_device_that_is_not_here_is_refused_with_what_is(kind):
    with pytest.raises(InputError, match=f"--device {kind}: there is none here, use auto or cpu$"):
        accelerators.choose_device(kind)


@pytest.mark.usefixtures("no_cuda", "mps", "xpu")
def test_auto_takes_the_first_and_a_name_takes_its_own():
    assert accelerators.devices_here() == ("mps", "xpu", "cpu")
    assert accelerators.choose_device("auto") == MPS
    assert accelerators.choose_device("xpu") == XPU
    assert accelerators.choose_device("cpu") == CPU
    with pytest.raises(InputError, match="use auto or mps or xpu or cpu"):
        accelerators.choose_device("cuda")


@pytest.mark.usefixtures("no_cuda", "mps")
def test_metal_tells_its_memory_and_is_emptied_and_awaited(said):
    assert free_bytes(MPS) == 13 * GIB
    assert accelerators.held_bytes(MPS) == (2 * GIB, 3 * GIB)
    assert others_on(MPS) == ()
    assert not accelerators.counts_peaks(MPS)
    accelerators.synchronize(MPS)
    free_memory()
    assert said == ["mps.synchronize", "mps.empty_cache"]
    with peak_memory.MemoryWatch(MPS) as watch:
        pass
    assert watch.peak_bytes == 0  # of what is held now, nothing came inside the block


@pytest.mark.usefixtures("no_cuda", "xpu")
def test_xpu_tells_its_memory_and_counts_its_peaks(said):
    assert free_bytes(XPU) == 18 * GIB
    assert others_on(XPU) == ("other processes hold 4.0 of 24.0 GiB on xpu",)
    with peak_memory.MemoryWatch(XPU) as watch:
        pass
    assert watch.peak_bytes == 5 * GIB
    free_memory()
    accelerators.synchronize(XPU)
    assert said == ["xpu.reset", "xpu.empty_cache", "xpu.synchronize"]


@pytest.mark.usefixtures("mps", "xpu")
def test_numbers_and_names_follow_the_device():
    assert choose_dtype("auto", CPU) == "float32"
    assert choose_dtype("auto", MPS) == "float16"
    assert choose_dtype("auto", XPU) == "bfloat16"
    assert describe(MPS, "float16", "P", 1).device_name == "Apple M9"
    assert describe(XPU, "bfloat16", "P", 1).device_name == "Arc B9"
    assert describe(MPS, "float16", "P", 1).kernels.startswith("mps ")


@pytest.mark.parametrize(
    "words",
    [
        "MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 380 MB)",
        "Invalid buffer size: 24.00 GB",
        "XPU out of memory. Tried to allocate 8.00 GiB.",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)",
    ],
)
def test_a_full_device_is_known_by_its_words(words):
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(ValueError(words))


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(ModelError, match="not for Apple's GPUs"):
        find_compiler(MPS)
    with pytest.raises(ModelError, match="Triton is not installed"):
        find_compiler(XPU)


class Doubles(TorchFunctionMode):
    """Notes every float64 tensor that is sent to, or made on, a named device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        told = [*args[1:], *kwargs.values()]
        named = any(isinstance(one, torch.device) for one in told)
        result = func(*args, **kwargs)
        if named and isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.found.append(getattr(func, "__name__", str(func)))
        return result


@pytest.mark.parametrize("scheduler", ["DPMSolverMultistepScheduler", "LMSDiscreteScheduler"])
def test_no_float64_reaches_the_device(renderer, scheduler):
    rows = [make_row(0, scheduler=scheduler), make_row(1, num_inference_steps=2)]
    with Doubles() as doubles:
        drawn = list(renderer.render(rows))

    assert len(drawn) == 2
    assert doubles.found == []
