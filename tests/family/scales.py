"""A scale computed from the real activation, in front of the sign and along each axis.

Σ s·b·w = s·Σ b·w only where s is the same for everything that one sum takes in.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .member import BINARY, INPUT_SCALE_VARIES, Member
from .parts import Chain, Function, bake, sign


def _mean_over(*axes: int) -> Function:
    return lambda x: x.abs().mean(axes, keepdim=True) * sign(x)


class TwoLevels(nn.Module):
    """A second sign of what the first left over, with a computed scale: b1 + s·b2 − θ2."""

    def __init__(self, shape: tuple[int, ...], *axes: int) -> None:
        super().__init__()
        self.threshold, self.shift1, self.shift2 = (
            nn.Parameter(torch.randn(shape) / 4) for _ in range(3)
        )
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        b1 = sign(x - self.threshold)
        left = x - b1 - self.shift1
        return b1 + left.abs().mean(self.axes, keepdim=True) * sign(-0.7 * left) - self.shift2


class ManyThresholds(nn.Module):
    """ABC-Net: Σ β·(±1 at several thresholds), with learned β, one of them negative."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor([0.9, -0.4, 0.3]))
        self.shift = nn.Parameter(torch.tensor([-0.5, 0.0, 0.6]))

    def forward(self, x: Tensor) -> Tensor:
        terms = (self.beta[i] * sign(x + self.shift[i]) for i in range(3))
        return sum(terms, torch.zeros(()))


class Fixed(nn.Module):
    """A learned scale, the same for every input."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * sign(x)


def _linear() -> nn.Module:
    return bake(nn.Linear(19, 7))


def _conv1d() -> nn.Module:
    return bake(nn.Conv1d(9, 5, 3, padding=1))


def _depthwise() -> nn.Module:
    return bake(nn.Conv1d(9, 9, 3, padding=1, groups=9))


def _conv2d() -> nn.Module:
    return bake(nn.Conv2d(6, 5, 3, padding=1))


def _pointwise() -> nn.Module:
    return bake(nn.Conv2d(6, 5, 1))


_FRAMES, _CHANNELS, _MAP = (4, 19), (9, 11), (6, 7, 5)


def _member(
    name: str,
    before: Callable[[], Function],
    layer: Callable[[], nn.Module],
    shape: tuple[int, ...],
    expected: str = BINARY,
) -> Member:
    def build() -> tuple[nn.Module, Tensor]:
        return Chain(before(), layer()), torch.randn(1, *shape)

    return Member(f"scale_{name}", build, {"layer": expected})


MEMBERS = (
    _member("linear_per_frame", lambda: _mean_over(2), _linear, _FRAMES),
    _member("linear_per_channel", lambda: _mean_over(1), _linear, _FRAMES, INPUT_SCALE_VARIES),
    _member("linear_per_sample", lambda: _mean_over(1, 2), _linear, _FRAMES),
    _member("conv1d_per_sample", lambda: _mean_over(1, 2), _conv1d, _CHANNELS),
    _member("conv1d_per_frame", lambda: _mean_over(1), _conv1d, _CHANNELS, INPUT_SCALE_VARIES),
    _member("conv1d_per_channel", lambda: _mean_over(2), _conv1d, _CHANNELS, INPUT_SCALE_VARIES),
    # One channel is all that a depthwise sum takes in.
    _member("depthwise_per_channel", lambda: _mean_over(2), _depthwise, _CHANNELS),
    _member(
        "depthwise_per_frame", lambda: _mean_over(1), _depthwise, _CHANNELS, INPUT_SCALE_VARIES
    ),
    _member("conv2d_per_sample", lambda: _mean_over(1, 2, 3), _conv2d, _MAP),
    _member("conv2d_per_position", lambda: _mean_over(1), _conv2d, _MAP, INPUT_SCALE_VARIES),
    _member("pointwise_per_position", lambda: _mean_over(1), _pointwise, _MAP),
    _member("pointwise_per_row", lambda: _mean_over(3), _pointwise, _MAP, INPUT_SCALE_VARIES),
    _member("learned_number", lambda: Fixed(torch.tensor(-0.6)), _conv2d, _MAP),
    _member(
        "learned_per_channel",
        lambda: Fixed(torch.rand(1, 6, 1, 1)),
        _conv2d,
        _MAP,
        INPUT_SCALE_VARIES,
    ),
    _member("two_levels_linear", lambda: TwoLevels((19,), 2), _linear, _FRAMES),
    _member("two_levels_conv2d", lambda: TwoLevels((6, 1, 1), 1, 2, 3), _conv2d, _MAP),
    _member("two_levels_depthwise", lambda: TwoLevels((9, 1), 2), _depthwise, _CHANNELS),
    _member(
        "two_levels_conv2d_per_row",
        lambda: TwoLevels((6, 1, 1), 3),
        _conv2d,
        _MAP,
        INPUT_SCALE_VARIES,
    ),
    _member("many_thresholds", ManyThresholds, _conv2d, _MAP),
)
