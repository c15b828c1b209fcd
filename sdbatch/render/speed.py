"""Speed switches, applied to a loaded model.

Each switch is part of the plan, because each moves pixels: in their last bits, the lossy
ones to the eye. None lets one row depend on another. Nothing is skipped in silence: what
this machine cannot do is refused while the model is loaded, in one line.

A compiled block belongs to one shape. The first call with a shape may compile it; later
calls must find it compiled, or the pass is refused: kernels that change in mid-run would
change the pixels of equal rows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch._dynamo.exc import TorchDynamoException
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdbatch.errors import ModelError, RenderError
from sdbatch.model_specs import RenderEnv, Speed
from sdbatch.render.device import is_out_of_memory
from sdbatch.render.pointwise import convolve_tokens

KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""Attention kernels that can be asked for by name; `auto` and `sdpa` leave it to torch."""

NO_KERNEL = ("No viable backend", "No available kernel")
"""What torch says when it is allowed no kernel that would do."""

FP8 = "fp8"

TRITON = {"cuda": ("triton",), "xpu": ("triton-xpu", "pytorch-triton-xpu", "triton")}
"""Packages that torch compiles with, by kind of device; elsewhere a C++ compiler does it."""

MAX_VARIANTS = 1024
"""Shapes one block's code may be compiled for; torch's own limit of 8 is that of accidents."""


class Passes:
    """What stands around every call of the denoiser's model.

    Args:
        attention: As in `Speed`.
        compiled: The model's blocks are compiled.
    """

    def __init__(self, attention: str = "auto", compiled: bool = False) -> None:
        self._attention = attention
        self._compiled = compiled
        self._known: set[tuple[int, ...]] = set()

    @contextmanager
    def around(self, shape: tuple[int, ...]) -> Iterator[None]:
        """Surround a call with latents of this shape.

        Raises:
            RenderError: There is no such kernel, the compiler failed, or it would have to
                compile a known shape again.
        """
        with ExitStack() as stack:
            if self._attention in KERNELS:
                stack.enter_context(_kernel(self._attention))
            if self._compiled:
                stack.enter_context(self._kept(shape))
            yield

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Run what is compiled as it was before: trials of many shapes compile nothing."""
        if not self._compiled:
            yield
            return
        self._compiled = False
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self._compiled = True

    @contextmanager
    def _kept(self, shape: tuple[int, ...]) -> Iterator[None]:
        settings: dict[str, Any] = {
            "error_on_recompile": shape in self._known,
            "recompile_limit": MAX_VARIANTS,
            "accumulated_recompile_limit": MAX_VARIANTS,
        }
        try:
            with torch._dynamo.config.patch(settings):
                yield
        except TorchDynamoException as error:
            if is_out_of_memory(error):
                raise
            raise RenderError(f"render.compile: {one_line(error)}") from error
        self._known.add(shape)


@contextmanager
def _kernel(name: str) -> Iterator[None]:
    try:
        with sdpa_kernel(KERNELS[name]):
            yield
    except RuntimeError as error:
        if any(phrase in str(error) for phrase in NO_KERNEL):
            reason = "no such kernel for this device, number type and head size"
            raise RenderError(f"render.attention: {name}: {reason}, use auto") from error
        raise


def apply_switches(
    speed: Speed, unet: Any, vae: Any, model: str, device: torch.device | None = None
) -> Passes:
    """Change a model in place to what the switches say.

    Args:
        speed: The switches.
        unet: diffusers' denoiser.
        vae: diffusers' autoencoder.
        model: What messages call it.
        device: Where it computes; None for where it lies.

    Returns:
        What every call of the denoiser is to be surrounded with.

    Raises:
        ModelError: The model or this machine cannot do it.
    """
    device = device or unet.device
    torch.backends.cuda.matmul.allow_tf32 = speed.tf32
    torch.backends.cudnn.allow_tf32 = speed.tf32
    if speed.attention == "sdpa":
        plain = (AttnProcessor, AttnProcessor2_0)  # others belong to their model's architecture
        found = unet.attn_processors.items()
        unet.set_attn_processor(
            {name: AttnProcessor2_0() if type(one) in plain else one for name, one in found}
        )
    if speed.fuse_qkv:
        _fuse(unet, model)
    if channels_last(speed, device.type):
        for part in (unet, vae):
            torch.nn.Module.to(part, memory_format=torch.channels_last)  # type: ignore[call-overload]
            if device.type == "cpu":
                convolve_tokens(part)
    if FP8 in speed.lossy.split(","):
        if device.type == "mps":
            raise ModelError("render.lossy: fp8: Apple's GPUs have no such numbers, leave it out")
        unet.enable_layerwise_casting(torch.float8_e4m3fn, unet.dtype)
    if speed.compile:
        find_compiler(device)
        if not getattr(unet, "_repeated_blocks", ()):
            reason = f"diffusers names no blocks of {type(unet).__name__} for it, leave it out"
            raise ModelError(f"model {model}: render.compile: {reason}")
        try:
            unet.compile_repeated_blocks(fullgraph=True, dynamic=False)
        except ValueError as error:
            raise ModelError(f"model {model}: render.compile: {one_line(error)}") from error
    return Passes(speed.attention, speed.compile)


def _fuse(unet: Any, model: str) -> None:
    if getattr(unet.config, "dual_attention_layers", ()):  # as in SD 3.5 medium
        reason = "diffusers cannot fuse a dual attention, leave the switch out"
        raise ModelError(f"model {model}: render.fuse_qkv: {reason}")
    try:
        unet.fuse_qkv_projections()
    except (AttributeError, ValueError) as error:
        raise ModelError(f"model {model}: render.fuse_qkv: {one_line(error)}") from error
    if not any(getattr(part, "fused_projections", False) for part in unet.modules()):
        raise ModelError(f"model {model}: render.fuse_qkv: no layer of it can be fused")
    unet.requires_grad_(False)  # the new layers


def channels_last(speed: Speed, device_type: str) -> bool:
    """Whether weights are laid out with channels last: where a CPU computes, unless told not to."""
    return device_type == "cpu" if speed.channels_last == "auto" else bool(speed.channels_last)


def cached_every(speed: Speed) -> int:
    """N of `deepcache:N`; 0 where it is not asked for."""
    names = (name for name in speed.lossy.split(",") if name.startswith("deepcache:"))
    return next((int(name.split(":")[1]) for name in names), 0)


def switched_env(speed: Speed, env: RenderEnv) -> str:
    """`env.kernels`, with what else decides pixels: layout, lossy switches, compiler."""
    parts = [env.kernels]
    if channels_last(speed, env.device):
        parts.append("channels last")
    if speed.lossy:
        parts.append(speed.lossy)
    if speed.compile:
        parts.append(f"compiled by {find_compiler(torch.device(env.device))}")
    return ", ".join(parts)


def idle_switches(speed: Speed, env: RenderEnv) -> tuple[str, ...]:
    """A line for each switch that changes nothing here."""
    if speed.tf32 and (env.device != "cuda" or env.dtype != "float32"):
        return (f"render.tf32 changes nothing on {env.device} in {env.dtype}",)
    return ()


def find_compiler(device: torch.device) -> str:
    """Name and version of what torch compiles with for a device.

    Raises:
        ModelError: It is not installed.
    """
    if device.type == "mps":
        raise ModelError("render.compile: not for Apple's GPUs in this version, leave it out")
    for name in TRITON.get(device.type, ()):
        with suppress(PackageNotFoundError):
            return f"triton {version(name)}"
    if device.type in TRITON:
        raise ModelError("render.compile: Triton is not installed, leave it out")
    command = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(command)
    if found is None:
        raise ModelError(f"render.compile: no C++ compiler ({command}) here, leave it out")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return (told.stdout.splitlines() or [command])[0]


def one_line(error: BaseException) -> str:
    """What an error says first, in one line."""
    return " ".join(str(error).split())[:300]
