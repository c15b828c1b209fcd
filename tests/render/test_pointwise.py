"""A linear layer computed as a convolution gives the linear layer's numbers."""

from __future__ import annotations

import pytest
import torch

from sdbatch.render.pointwise import PointwiseLinear, convolve_tokens

pytestmark = pytest.mark.render


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 17, 24), (1, 1, 24), (4, 24), (2, 3, 5, 24)])
def test_outputs_are_those_of_the_linear_layer(shape, bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 40, bias=bias)
    inputs = torch.randn(shape)
    with torch.inference_mode():
        wanted = layer(inputs)
        found = PointwiseLinear(layer)(inputs)

    assert found.shape == wanted.shape
    assert found.is_contiguous()
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_inputs_in_another_memory_order_give_the_same_numbers():
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 8)
    inputs = torch.randn(3, 24, 17).transpose(1, 2)
    with torch.inference_mode():
        assert torch.allclose(PointwiseLinear(layer)(inputs), layer(inputs), rtol=1e-5, atol=1e-6)


def test_weights_are_shared_and_only_plain_linear_layers_replaced():
    class Own(torch.nn.Linear):
        """Somebody's layer with a life of its own."""

    inner = torch.nn.Sequential(torch.nn.Linear(4, 4), Own(4, 4))
    model = torch.nn.Sequential(inner, torch.nn.Conv2d(1, 1, 1), torch.nn.Linear(4, 2))
    weights = [weight.data_ptr() for weight in model.parameters()]
    names = list(model.state_dict())

    convolve_tokens(model)

    assert [type(layer).__name__ for layer in inner] == ["PointwiseLinear", "Own"]
    assert isinstance(model[2], PointwiseLinear)
    assert [weight.data_ptr() for weight in model.parameters()] == weights
    assert list(model.state_dict()) == names
