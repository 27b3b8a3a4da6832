"""The learned binarizer of BiFSMNv2 (TNNLS 2023) with dual-scale activations.

`sign` is a comparison everywhere: +1 where its argument is >= 0, else -1, and never 0, because a
bit has no third value. Its backward is straight-through: that of its argument clipped to [-1, 1].
Scales are constants and stay out of the gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn


def sign(x: Tensor) -> Tensor:
    """Return +1 where `x >= 0`, else -1, without a gradient."""
    # As sign(sign(x) + 1/2): on a CPU ten times as fast as a comparison and a choice.
    return x.sign().add_(0.5).sign_()


def _inside(x: Tensor) -> Tensor:
    """Return 1 where |x| <= 1, else 0; as floats, because a product with bools is slow on a CPU."""
    return torch.le(x.abs(), 1, out=torch.empty_like(x))


class WeightSign(torch.autograd.Function):
    """`scale · sign(alpha · weight)`, with a gradient for the weight and the scalar `alpha`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
        """Return a tensor shaped like the weight; `scale` broadcasts against it."""
        ctx.save_for_backward(weight, alpha)
        return sign(alpha * weight).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of weight and alpha."""
        weight, alpha = ctx.saved_tensors
        passed = _inside(alpha * weight).mul_(gradient)
        return passed * alpha, (passed * weight).sum(), None


class DualScaleSign(torch.autograd.Function):
    """The formula of `DualScale`, with its backward written out: a fifth of autograd's time."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        threshold: Tensor,
        shift1: Tensor,
        shift2: Tensor,
        alpha1: Tensor,
        alpha2: Tensor,
        scale_axes: tuple[int, ...],
    ) -> Tensor:
        """Return a tensor shaped like `x`."""
        centred = x - threshold
        b1 = sign(alpha1 * centred)
        residual = (x - b1).sub_(shift1)
        scale = residual.abs().mean(scale_axes, keepdim=True)
        ctx.save_for_backward(centred, residual, alpha1, alpha2)
        ctx.shape = threshold.shape
        return sign(alpha2 * residual).mul_(scale).add_(b1).sub_(shift2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients in the order of the arguments."""
        centred, residual, alpha1, alpha2 = ctx.saved_tensors
        second = _inside(alpha2 * residual).mul_(gradient)
        of_alpha2 = (second * residual).sum()
        of_residual = second.mul_(alpha2)
        first = _inside(alpha1 * centred).mul_(gradient - of_residual)
        of_alpha1 = (first * centred).sum()
        of_centred = first.mul_(alpha1)
        of_channels = [
            -each.sum(0).sum_to_size(ctx.shape) for each in (of_centred, of_residual, gradient)
        ]
        return (of_centred + of_residual, *of_channels, of_alpha1, of_alpha2, None)


class DualScale(nn.Module):
    """Binarize an activation to two bits with one common scale: `b1 + s·b2 - shift2`.

    `b1 = sign(alpha1 · (x - threshold))`, `r = x - b1 - shift1`, `s = mean |r|` over `scale_axes`,
    `b2 = sign(alpha2 · r)`. `threshold`, `shift1`, `shift2` (the paper's θ, θ1, θ2) hold one number
    per input channel; both alphas are learned scalars and may become negative.
    """

    def __init__(self, channel_shape: tuple[int, ...], scale_axes: tuple[int, ...]) -> None:
        """`channel_shape` broadcasts a number per channel against the input, batch left out."""
        super().__init__()
        self.scale_axes = scale_axes
        self.threshold = nn.Parameter(torch.rand(channel_shape) * 1e-3)
        self.shift1 = nn.Parameter(torch.rand(channel_shape) * 1e-3)
        self.shift2 = nn.Parameter(torch.rand(channel_shape) * 1e-3)
        self.alpha1 = nn.Parameter(torch.ones(()))
        self.alpha2 = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Binarize `x`; the result has its shape. In eval mode signs have no gradient."""
        if self.training:
            shifts = (self.threshold, self.shift1, self.shift2)
            result: Tensor = DualScaleSign.apply(  # type: ignore[no-untyped-call]
                x, *shifts, self.alpha1, self.alpha2, self.scale_axes
            )
            return result
        # Plain operators that every exporter knows.
        b1 = torch.where(self.alpha1 * (x - self.threshold) >= 0, 1.0, -1.0)
        residual = x - b1 - self.shift1
        b2 = torch.where(self.alpha2 * residual >= 0, 1.0, -1.0)
        scale = residual.abs().mean(self.scale_axes, keepdim=True)
        return b1 + scale * b2 - self.shift2
