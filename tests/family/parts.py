"""Pieces that the members share."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

LayerT = TypeVar("LayerT", nn.Conv1d, nn.Conv2d, nn.Linear)
Function = Callable[[Tensor], Tensor]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1: a comparison, never 0."""
    return torch.where(x >= 0, 1.0, -1.0)


def signs_of(weight: Tensor) -> Tensor:
    """The signs of random weights, none of which is zero."""
    assert bool((weight != 0).all())
    return weight.sign()


def bake(layer: LayerT, scale: Tensor | float = 1.0) -> LayerT:
    """Let the layer's weights be exact signs times a scale."""
    with torch.no_grad():
        layer.weight.copy_(signs_of(layer.weight) * scale)
    return layer


def per_output(layer: nn.Module) -> Tensor:
    """mean |w| for every output channel, shaped to multiply the weights."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().abs().flatten(1).mean(1).view(-1, *[1] * (weight.dim() - 1))


class LatentConv2d(nn.Conv2d):
    """A convolution that keeps its real weights and binarizes them whenever it runs."""

    def __init__(self, *args: Any, binarize: Function, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.binarize = binarize

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(
            x,
            self.binarize(self.weight),
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class LatentLinear(nn.Linear):
    """A linear layer that keeps its real weights and binarizes them whenever it runs."""

    def __init__(self, *args: Any, binarize: Function, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.binarize = binarize

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.binarize(self.weight), self.bias)


class Chain(nn.Module):
    """What is applied to the input of one layer, and the layer, named `layer`."""

    def __init__(self, before: Function, layer: nn.Module) -> None:
        super().__init__()
        self.before = before
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.before(x))
