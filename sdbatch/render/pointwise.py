"""Linear layers as 1x1 convolutions.

On a CPU torch sends a matrix product and a convolution to different libraries, and on many
processors the second is twice as fast. Tokens `[B, T, C]` are already laid out as pictures
`[B, C, 1, T]` with channels last, so nothing is copied on the way in or out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear


class PointwiseLinear(torch.nn.Linear):
    """A linear layer that convolves where its input has tokens.

    Args:
        layer: Whose weights it takes over.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Outputs `[..., out]` of inputs `[..., in]`."""
        if input.dim() != 3:
            return linear(input, self.weight, self.bias)
        pictures = input.unsqueeze(1).permute(0, 3, 1, 2)
        convolved = conv2d(pictures, self.weight[:, :, None, None], self.bias)
        return convolved.permute(0, 2, 3, 1).squeeze(1)


def convolve_tokens(model: torch.nn.Module) -> None:
    """Replace every plain linear layer inside a model, its weights kept."""
    for name, layer in list(model.named_children()):
        # Quantized weights are none that a convolution takes.
        if type(layer) is torch.nn.Linear and type(layer.weight) is torch.nn.Parameter:
            setattr(model, name, PointwiseLinear(layer))
        else:
            convolve_tokens(layer)
