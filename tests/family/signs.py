"""The ways people write the sign of an activation, each before the same ±1 convolution."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import ALL, BINARY, DYNAMO_ONLY, Exporter, Member, Zeros
from .parts import Chain, Function, bake

CHANNELS = 6


def where_at_least(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def where_above(x: Tensor) -> Tensor:
    """Ties are -1."""
    return torch.where(x > 0, 1.0, -1.0)


def where_below(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0)


def where_at_most(x: Tensor) -> Tensor:
    """Ties are -1."""
    return torch.where(x <= 0, -1.0, 1.0)


def where_ones_like(x: Tensor) -> Tensor:
    """Both choices are tensors as large as the input."""
    return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))


def where_not(x: Tensor) -> Tensor:
    return torch.where(torch.logical_not(x >= 0), -1.0, 1.0)


def twice_comparison_minus_one(x: Tensor) -> Tensor:
    return (x >= 0).float() * 2 - 1


def one_minus_twice_comparison(x: Tensor) -> Tensor:
    return 1 - 2 * (x < 0).float()


def difference_of_comparisons(x: Tensor) -> Tensor:
    return (x >= 0).float() - (x < 0).float()


def comparison_minus_half(x: Tensor) -> Tensor:
    """±1/2: a sign with a scale."""
    return (x >= 0).float() - 0.5


def twice_above_number(x: Tensor) -> Tensor:
    return 2 * (x > 0.25).float() - 1


def torch_sign(x: Tensor) -> Tensor:
    return torch.sign(x)


def sign_of_clipped(x: Tensor) -> Tensor:
    return torch.sign(torch.clamp(x, -1, 1))


def sign_of_hardtanh(x: Tensor) -> Tensor:
    return torch.sign(functional.hardtanh(x))


def sign_of_relu(x: Tensor) -> Tensor:
    """0 or 1, never -1: (1 + b)/2 with b = +1 where x > 0, so its zeros have a bit."""
    return torch.sign(functional.relu(x))


def sign_of_relu_minus_mean(x: Tensor) -> Tensor:
    """Centred on its mean: the zeros of the ReLU are moved off the threshold."""
    rectified = functional.relu(x)
    return torch.sign(rectified - rectified.mean((1, 2, 3), keepdim=True))


def sign_of_zero_replaced(x: Tensor) -> Tensor:
    found = torch.sign(x)
    return torch.where(found == 0, torch.ones_like(found), found)


def double_sign(x: Tensor) -> Tensor:
    return torch.sign(torch.sign(x) + 0.1)


def sign_minus_mean(x: Tensor) -> Tensor:
    """The threshold is computed from the input: the mean over its channels."""
    return torch.where(x - x.mean(1, keepdim=True) >= 0, 1.0, -1.0)


def round_of_hard_sigmoid(x: Tensor) -> Tensor:
    """BinaryNet's: 2·round(clip((x + 1)/2, 0, 1)) − 1.

    Halves round to even, and 1 is absorbed into x below 2^-24, so in float32 the threshold is not
    0: the result is +1 exactly where x > 2^-24.
    """
    return 2 * torch.round(torch.clamp((x + 1) / 2, 0, 1)) - 1


def round_of_hardtanh(x: Tensor) -> Tensor:
    return 2 * torch.round((functional.hardtanh(x) + 1) * 0.5) - 1


def round_to_bit(x: Tensor) -> Tensor:
    """DoReFa-Net's activation of one bit: 0 or 1, so (1 + b)/2 with b = +1 where x > 1/2."""
    return torch.round(torch.clamp(x, 0, 1))


def residue_of_clip(x: Tensor) -> Tensor:
    """Straight-through in one line: the values of q, the gradient of the clip."""
    clipped = torch.clamp(x, -1, 1)
    quantized = torch.where(x >= 0, 1.0, -1.0)
    return (quantized - clipped).detach() + clipped


def residue_of_clip_detached(x: Tensor) -> Tensor:
    clipped = torch.clamp(x, -1, 1)
    return torch.sign(x).detach() - clipped.detach() + clipped


def residue_of_input(x: Tensor) -> Tensor:
    """Without a clip the rounding error grows with |x|."""
    quantized = torch.where(x >= 0, 1.0, -1.0)
    return quantized.detach() - x.detach() + x


def residue_after_input(x: Tensor) -> Tensor:
    quantized = torch.where(x >= 0, 1.0, -1.0)
    return x + (quantized - x).detach()


def residue_of_polynomial(x: Tensor) -> Tensor:
    """Bi-Real Net's: the residue is the piecewise polynomial whose slope stands for the sign's."""
    below, negative, under = ((x < bound).float() for bound in (-1, 0, 1))
    falling = -below + (x * x + 2 * x) * (1 - below)
    rising = falling * negative + (-x * x + 2 * x) * (1 - negative)
    approximate = rising * under + (1 - under)
    return torch.sign(x).detach() - approximate.detach() + approximate


class _CustomSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class _CustomComparison(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.ge(0).to(x.dtype).mul(2).sub(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


def custom_sign(x: Tensor) -> Tensor:
    return _CustomSign.apply(x)


def custom_comparison(x: Tensor) -> Tensor:
    return _CustomComparison.apply(x)


class Learned(nn.Module):
    """sign(α·(x − θ)) with a threshold and a slope that were learned; α has both signs."""

    def __init__(self, alpha: Tensor, theta: Tensor, written: Function = where_at_least) -> None:
        super().__init__()
        self.alpha = nn.Parameter(alpha)
        self.theta = nn.Parameter(theta)
        self.written = written

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self.alpha * (x - self.theta))


class Above(nn.Module):
    """2·(x > θ) − 1 with a threshold that was learned."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * (x > self.theta).float() - 1


def _per_channel() -> Tensor:
    return torch.randn(1, CHANNELS, 1, 1) / 2


def _member(
    name: str,
    form: Callable[[], Function],
    zeros: Zeros = "none",
    exporters: tuple[Exporter, ...] = ALL,
    expected: str = BINARY,
) -> Member:
    def build() -> tuple[nn.Module, Tensor]:
        layer = bake(nn.Conv2d(CHANNELS, 5, 3, padding=1, bias=False))
        return Chain(form(), layer), torch.randn(1, CHANNELS, 7, 5)

    return Member(f"sign_{name}", build, {"layer": expected}, zeros, exporters)


def _of(
    form: Function,
    zeros: Zeros = "none",
    exporters: tuple[Exporter, ...] = ALL,
    expected: str = BINARY,
) -> Member:
    name = form.__name__.removeprefix("sign_")
    return _member(name, lambda: form, zeros, exporters, expected)


MEMBERS = (
    _of(where_at_least),
    _of(where_above),
    _of(where_below),
    _of(where_at_most),
    _of(where_ones_like),
    _of(where_not),
    _of(twice_comparison_minus_one),
    _of(one_minus_twice_comparison),
    _of(difference_of_comparisons),
    _of(comparison_minus_half),
    _of(twice_above_number),
    _of(torch_sign, "unlikely"),
    _of(sign_of_clipped, "unlikely"),
    _of(sign_of_hardtanh, "unlikely"),
    _of(sign_of_relu, "certain"),
    _of(sign_of_relu_minus_mean, "unlikely"),
    _of(sign_of_zero_replaced),
    _of(double_sign),
    _of(sign_minus_mean),
    _of(round_of_hard_sigmoid),
    _of(round_of_hardtanh),
    _of(round_to_bit),
    _of(residue_of_clip),
    _of(residue_of_clip_detached, "unlikely"),
    _of(residue_of_input),
    _of(residue_after_input),
    _of(residue_of_polynomial, "unlikely"),
    _of(custom_sign, "unlikely", DYNAMO_ONLY),
    _of(custom_comparison, exporters=DYNAMO_ONLY),
    _member("above_per_channel", lambda: Above(_per_channel())),
    _member("threshold_per_position", lambda: Above(torch.randn(1, CHANNELS, 7, 5) / 2)),
    _member("alpha_positive", lambda: Learned(torch.tensor(0.8), _per_channel())),
    _member("alpha_negative", lambda: Learned(torch.tensor(-0.8), _per_channel())),
    _member("alpha_per_channel", lambda: Learned(_per_channel(), _per_channel())),
    _member(
        "alpha_negative_written_sign",
        lambda: Learned(torch.tensor(-0.8), _per_channel(), torch_sign),
        "unlikely",
    ),
)
