"""Matrices in 8 or 4 bits: what is changed, what is refused, how far pictures move."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.loading import load_renderer
from sdbatch.render.memory import quantize
from sdbatch.render.memory.quantize import demand_quantizer, quantize_rooms, quantized_bytes
from tests.render.drawing import make_row, pictures

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
ROWS = [make_row(index, num_inference_steps=2) for index in range(3)]


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.proj = torch.nn.Linear(128, 64)
        self.wo = torch.nn.Linear(64, 64, bias=False)
        self.conv = torch.nn.Conv2d(4, 8, 3)

    _keep_in_fp32_modules = ("wo",)

    def forward(self, values):
        return self.wo(self.proj(values))


def rooms_of(model):
    vae = torch.nn.Sequential(torch.nn.Linear(8, 8))
    return Rooms(None, None, None, {"unet": model, "vae": vae, "tokenizer": object()})


@pytest.mark.parametrize(("kind", "library"), quantize.LIBRARIES.items())
def test_a_library_that_is_not_installed_is_named_with_its_command(monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ModelError, match=r"pip install 'sdbatch\[quantize\]'") as refused:
        demand_quantizer(kind, CUDA)
    assert library in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nf4_is_refused_where_there_is_no_cuda_and_nothing_asked_wants_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match="nf4: needs a CUDA GPU, on cpu use int8"):
        demand_quantizer("nf4", CPU)
    demand_quantizer("", CPU)


def test_bytes_are_counted_before_anything_is_quantized():
    model = Model()
    rest = sum(weight.nbytes for weight in model.parameters()) - 128 * 64 * 4

    assert quantized_bytes(model, "") == rest + 128 * 64 * 4
    assert quantized_bytes(model, "int8") == rest + 128 * 64
    assert quantized_bytes(model, "nf4") == rest + 128 * 64 * 9 // 16


def test_int8_changes_the_matrices_of_the_first_rooms_alone():
    pytest.importorskip("torchao")
    model, plain = Model(), Model()
    rooms = rooms_of(model)

    quantize_rooms(rooms, "int8", torch.float32)

    values = torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = model.proj(values), plain.proj(values)
        assert 0 < (found - wanted).abs().max() < 0.02 * wanted.abs().max()
        alone = torch.cat([model.proj(value[None]) for value in values])
        assert torch.allclose(found, alone, atol=1e-6)  # a row's scale is its own
    assert type(model.wo.weight) is torch.nn.Parameter
    assert torch.equal(model.conv.weight, plain.conv.weight)
    assert type(rooms.vae[0].weight) is torch.nn.Parameter


def test_nf4_packs_four_bits_a_number():
    pytest.importorskip("bitsandbytes")
    model, plain = Model(), Model()

    quantize_rooms(rooms_of(model), "nf4", torch.float32)
    model.to("cpu")  # numbers are packed as they reach their device

    values = torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = model.proj(values), plain.proj(values)
    assert model.proj.weight.numel() == 128 * 64 // 2
    assert 0 < (found - wanted).abs().max() < 0.3 * wanted.abs().max()
    assert type(model.wo) is torch.nn.Linear


def test_a_quantized_model_draws_nearly_the_same_however_it_is_held(shapes):
    pytest.importorskip("torchao")
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 4}, 1)

    plain = pictures(load_renderer(spec, []).render(ROWS))
    renderer = load_renderer(replace(spec, quantize="int8"), [])
    found = pictures(renderer.render(ROWS))
    rooms = load_renderer(replace(spec, quantize="int8", memory="rooms"), [])
    held = pictures(rooms.render(ROWS))

    off = np.mean([np.abs(found[key].astype(int) - plain[key]).mean() for key in plain])
    assert 0 < off < 4
    assert all(np.array_equal(found[key], held[key]) for key in found)
    assert "int8 by torchao" in renderer.env.kernels
