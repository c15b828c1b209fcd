"""Matrices in 8 or 4 bits: a model of half the size or a quarter, and pictures a little other.

The linear layers of denoiser and text encoders are quantized, each row of a matrix (`int8`,
torchao) or each 64 numbers of it (`nf4`, bitsandbytes) with a scale of its own; inputs are left
as they are, so that rows of a batch know nothing of one another. Convolutions, norms and the
autoencoder stay whole. The libraries are imported only where they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch

from sdbatch.errors import ModelError
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.memory.memory_rooms import Room, modules_by_room

INT8, NF4 = "int8", "nf4"
LIBRARIES = {INT8: "torchao", NF4: "bitsandbytes"}
NF4_BLOCK = 64
_PER_NUMBER = {INT8: 1.0, NF4: 0.5 + 4 / NF4_BLOCK}
"""Bytes of a quantized number, the scales of nf4's blocks among them."""


def demand_quantizer(kind: str, device: torch.device) -> None:
    """Find out before anything is loaded that a model can be quantized here.

    Args:
        kind: As in `RenderSpec`; empty asks for nothing.
        device: Where it will compute.

    Raises:
        ModelError: It cannot; in one line what to do.
    """
    if not kind:
        return
    if kind == NF4 and device.type != "cuda":
        raise ModelError(f"--quantize {NF4}: needs a CUDA GPU, on {device.type} use {INT8}")
    try:
        importlib.import_module(LIBRARIES[kind])
    except ImportError as error:
        raise ModelError(
            f"--quantize {kind}: needs {LIBRARIES[kind]}, install it with "
            "`pip install 'sdbatch[quantize]'`"
        ) from error


def quantize_rooms(rooms: Rooms, kind: str, dtype: torch.dtype) -> None:
    """Quantize the first two rooms in place, wherever they lie.

    Args:
        rooms: As a family filled them.
        kind: As in `RenderSpec`; empty leaves them as they are.
        dtype: Number type that they compute in.
    """
    if not kind:
        return
    modules = modules_by_room(rooms.components)
    for module in (*modules[Room.TEXT], *modules[Room.NOISE]):
        if kind == INT8:
            _to_int8(module)
        else:
            _to_nf4(module, dtype)
        module.requires_grad_(False)


def quantized_with(kind: str) -> str:
    """What a picture's record says of it; empty for nothing."""
    return f"{kind} by {LIBRARIES[kind]} {version(LIBRARIES[kind])}" if kind else ""


def quantized_bytes(module: Any, kind: str) -> int:
    """Bytes of a model's weights after it is quantized."""
    total = float(sum(weight.nbytes for weight in module.parameters()))
    if kind:
        for _, _, linear in _linears(module):
            total += linear.weight.numel() * _PER_NUMBER[kind] - linear.weight.nbytes
    return int(total)


def _linears(module: Any) -> Iterator[tuple[Any, str, Any]]:
    """(parent, name in it, layer) of every linear layer."""
    whole = getattr(module, "_keep_in_fp32_modules", None) or ()  # its maker knows why
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is torch.nn.Linear and name not in whole:
                yield parent, name, child


def _to_int8(module: Any) -> None:
    library: Any = importlib.import_module("torchao.quantization")
    wanted = {id(linear) for _, _, linear in _linears(module)}
    library.quantize_(
        module, library.Int8WeightOnlyConfig(), filter_fn=lambda layer, _: id(layer) in wanted
    )


def _to_nf4(module: Any, dtype: torch.dtype) -> None:
    """Put 4-bit layers in place; their numbers are packed when they reach the device."""
    layers: Any = importlib.import_module("bitsandbytes.nn")
    for parent, name, linear in list(_linears(module)):
        packed = layers.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=dtype,
            quant_type=NF4,
            device="meta",
        )
        packed.weight = layers.Params4bit(
            linear.weight.data.contiguous(), requires_grad=False, quant_type=NF4
        )
        packed.bias = linear.bias
        setattr(parent, name, packed)
