"""Layers of every shape: the activation is a comparison and the weights are ±1, all else varies."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, INPUT_HAS_LEVELS, SIGN_MEETS_ZERO, Member
from .parts import Chain, Function, bake, sign

Layer = nn.Conv1d | nn.Conv2d | nn.Linear


def _layer(
    name: str,
    layer: Callable[[], Layer],
    shape: tuple[int, ...],
    before: Function = sign,
    expected: str = BINARY,
) -> Member:
    def build() -> tuple[nn.Module, Tensor]:
        return Chain(before, bake(layer())), torch.randn(1, *shape)

    return Member(f"shape_{name}", build, {"layer": expected})


def padded_after_unevenly(x: Tensor) -> Tensor:
    """Zeros after the sign are neither +1 nor -1."""
    return functional.pad(sign(x), (1, 0, 2, 1))


def padded_before(x: Tensor) -> Tensor:
    """Zeros before the sign become +1."""
    return sign(functional.pad(x, (1, 2, 0, 1)))


def padded_with_ones(x: Tensor) -> Tensor:
    return functional.pad(sign(x), (1, 1, 1, 1), value=1.0)


def padded_with_minus_ones(x: Tensor) -> Tensor:
    return functional.pad(sign(x), (1, 1, 1, 1), value=-1.0)


def padded_by_reflection(x: Tensor) -> Tensor:
    return functional.pad(sign(x), (1, 1, 1, 1), mode="reflect")


def flattened(x: Tensor) -> Tensor:
    return sign(x).flatten(1)


def transposed(x: Tensor) -> Tensor:
    return sign(x).transpose(1, 2)


def shuffled(x: Tensor) -> Tensor:
    """ShuffleNet's channel shuffle in two groups."""
    return sign(x).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def joined(x: Tensor) -> Tensor:
    """Two binary tensors side by side, as in binary DenseNets."""
    return torch.cat([sign(x), sign(x - 0.3)], 1)


def max_pooled(x: Tensor) -> Tensor:
    """The largest of some ±1 is ±1."""
    return functional.max_pool2d(sign(x), 2)


def average_pooled(x: Tensor) -> Tensor:
    return functional.avg_pool2d(sign(x), 2)


class TwoUsers(nn.Module):
    """One sign feeds two layers, and something that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = bake(nn.Conv2d(6, 5, 3, padding=1, bias=False))
        self.right = bake(nn.Conv2d(6, 5, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        b = sign(x)
        return self.left(b) + self.right(b) * b.mean()


class SharedWeights(nn.Module):
    """Two layers with the same weights on different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = bake(nn.Conv2d(6, 6, 3, padding=1, bias=False))
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(sign(x)) / 8
        return self.second(sign(y - x))


class CalledTwice(nn.Module):
    """One layer runs on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = bake(nn.Conv1d(9, 9, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(sign(x))
        return self.layer(sign(y - 0.5))


class ResidualAcross(nn.Module):
    """The real input goes around two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = bake(nn.Conv2d(7, 7, 3, padding=1, bias=False))
        self.second = bake(nn.Conv2d(7, 7, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(sign(x)) / 8 + x
        return self.second(sign(y)) / 8 + y + x


class Split(nn.Module):
    """Each half of a binary tensor goes to its own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = bake(nn.Conv2d(5, 4, 3, bias=False))
        self.right = bake(nn.Conv2d(5, 4, 3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        left, right = sign(x).chunk(2, 1)
        return self.left(left) - self.right(right)


class SignOfSum(nn.Module):
    """A sign straight on a sum of `products` products: 0 is possible where that is even."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self.first = bake(nn.Linear(products, 64, bias=False))
        self.second = bake(nn.Linear(64, 5, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.sign(self.first(sign(x))))


def _module(
    name: str, build: Callable[[], nn.Module], shape: tuple[int, ...], *layers: str
) -> Member:
    expected = dict.fromkeys(layers, BINARY)
    return Member(f"shape_{name}", lambda: (build(), torch.randn(1, *shape)), expected)


MEMBERS = (
    _layer("linear_vector", lambda: nn.Linear(19, 7), (19,)),
    _layer("linear_frames", lambda: nn.Linear(19, 7), (4, 19)),
    _layer("linear_no_bias", lambda: nn.Linear(64, 3, bias=False), (64,)),
    _layer("linear_one_input", lambda: nn.Linear(1, 3), (1,)),
    _layer("conv1d", lambda: nn.Conv1d(9, 5, 3, padding=1), (9, 11)),
    _layer("conv1d_pointwise", lambda: nn.Conv1d(9, 5, 1), (9, 11)),
    _layer("conv1d_stride_dilation", lambda: nn.Conv1d(9, 5, 3, 2, 2, 2), (9, 11)),
    _layer("conv1d_depthwise", lambda: nn.Conv1d(9, 9, 5, padding=2, groups=9), (9, 11)),
    _layer("conv2d", lambda: nn.Conv2d(8, 5, 3), (8, 7, 6)),
    _layer("conv2d_pointwise", lambda: nn.Conv2d(13, 5, 1), (13, 7, 6)),
    _layer("conv2d_pointwise_stride", lambda: nn.Conv2d(13, 5, 1, stride=2), (13, 7, 6)),
    _layer("conv2d_pointwise_padded", lambda: nn.Conv2d(13, 5, 1, padding=1), (13, 7, 6)),
    _layer("conv2d_one_channel", lambda: nn.Conv2d(1, 5, 3, padding=1), (1, 7, 6)),
    _layer("conv2d_odd_channels", lambda: nn.Conv2d(13, 11, 3, padding=1), (13, 7, 6)),
    _layer("conv2d_stride", lambda: nn.Conv2d(6, 5, 5, stride=2, padding=2), (6, 9, 8)),
    _layer("conv2d_uneven_stride", lambda: nn.Conv2d(6, 5, 3, stride=(2, 1)), (6, 9, 8)),
    _layer("conv2d_dilation", lambda: nn.Conv2d(6, 5, 3, padding=2, dilation=2), (6, 9, 8)),
    _layer("conv2d_flat_kernel", lambda: nn.Conv2d(6, 5, (1, 5), padding=(0, 2)), (6, 9, 8)),
    _layer("conv2d_even_kernel_same", lambda: nn.Conv2d(6, 5, 4, padding="same"), (6, 9, 8)),
    _layer("conv2d_depthwise", lambda: nn.Conv2d(9, 9, 3, padding=1, groups=9), (9, 7, 6)),
    _layer("conv2d_depthwise_twofold", lambda: nn.Conv2d(9, 18, 3, groups=9), (9, 7, 6)),
    _layer("conv2d_groups", lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), (6, 7, 6)),
    _layer("padded_after_unevenly", lambda: nn.Conv2d(6, 5, 3), (6, 7, 6), padded_after_unevenly),
    _layer("padded_before", lambda: nn.Conv2d(6, 5, 3), (6, 7, 6), padded_before),
    _layer("padded_with_ones", lambda: nn.Conv2d(6, 5, 3), (6, 7, 6), padded_with_ones),
    _layer("padded_with_minus_ones", lambda: nn.Conv2d(6, 5, 3), (6, 7, 6), padded_with_minus_ones),
    _layer("padded_by_reflection", lambda: nn.Conv2d(6, 5, 3), (6, 7, 6), padded_by_reflection),
    _layer("flattened", lambda: nn.Linear(42, 5), (3, 7, 2), flattened),
    _layer("transposed", lambda: nn.Linear(11, 5), (11, 4), transposed),
    _layer("shuffled", lambda: nn.Conv2d(6, 4, 3, groups=2), (6, 7, 6), shuffled),
    _layer("joined", lambda: nn.Conv2d(10, 4, 3), (5, 7, 6), joined),
    _layer("max_pooled", lambda: nn.Conv2d(6, 4, 3), (6, 8, 8), max_pooled),
    _layer(
        "average_pooled", lambda: nn.Conv2d(6, 4, 3), (6, 8, 8), average_pooled, INPUT_HAS_LEVELS
    ),
    _module("two_users", TwoUsers, (6, 7, 5), "left", "right"),
    _module("shared_weights", SharedWeights, (6, 7, 5), "first", "second"),
    _module("called_twice", CalledTwice, (9, 7), "layer"),
    _module("residual_across", ResidualAcross, (7, 6, 5), "first", "second"),
    _module("split", Split, (10, 6, 5), "left", "right"),
    # An odd count of ±1 never sums to zero, so this Sign has a bit everywhere.
    _module("sign_of_odd_sum", lambda: SignOfSum(15), (3, 15), "first", "second"),
    Member(
        "shape_sign_of_even_sum",
        lambda: (SignOfSum(16), torch.randn(1, 3, 16)),
        {"first": BINARY, "second": SIGN_MEETS_ZERO},
        zeros="certain",
    ),
)
