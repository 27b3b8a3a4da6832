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
    return _to_sign(x.clone())


def _to_sign(x: Tensor) -> Tensor:
    """Replace the numbers of `x` by their `sign`; returns x."""
    # As sign(sign(x) + 1/2): on a CPU ten times as fast as a comparison and a choice.
    return x.sign_().add_(0.5).sign_()


def _clipped(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of `clip(x, -1, 1)`: `gradient` where |x| <= 1, else 0."""
    limit = 1 + torch.finfo(x.dtype).eps  # which torch excludes, and so includes 1
    result: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, -limit, limit)
    return result


class WeightSign(torch.autograd.Function):
    """`scale · sign(alpha · weight)`, with a gradient for the weight and the scalar `alpha`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
        """Return a tensor shaped like the weight; `scale` broadcasts against it."""
        ctx.save_for_backward(weight, alpha)
        return _to_sign(alpha * weight).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of weight and alpha."""
        weight, alpha = ctx.saved_tensors
        passed = _clipped(gradient, alpha * weight)
        return passed * alpha, (passed * weight).sum(), None


class DualScaleSign(torch.autograd.Function):
    """The formula of `DualScale`, with its backward written out: a fraction of autograd's time."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        threshold: Tensor,
        shift1: Tensor,
        shift2: Tensor,
        alpha1: Tensor,
        alpha2: Tensor,
        scale: Tensor | None,
        scale_axes: tuple[int, ...],
    ) -> Tensor:
        """Return a tensor shaped like `x`; without a `scale` it is computed."""
        centred = x - threshold
        b1 = _to_sign(alpha1 * centred)
        residual = (x - b1).sub_(shift1)
        ctx.save_for_backward(centred, residual, alpha1, alpha2)
        ctx.shape, ctx.learned = threshold.shape, scale is not None
        if scale is None:
            scale = residual.abs().mean(scale_axes, keepdim=True)
        return _to_sign(alpha2 * residual).mul_(scale).add_(b1).sub_(shift2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients in the order of the arguments."""
        centred, residual, alpha1, alpha2 = ctx.saved_tensors
        scaled = alpha2 * residual
        second = _clipped(gradient, scaled)
        of_scale = _to_sign(scaled).mul_(gradient).sum() if ctx.learned else None
        of_alpha2 = (second * residual).sum()
        of_residual = second.mul_(alpha2)
        first = _clipped(gradient - of_residual, alpha1 * centred)
        of_alpha1 = (first * centred).sum()
        of_centred = first.mul_(alpha1)
        of_channels = [
            -each.sum_to_size(1, *ctx.shape)[0] for each in (of_centred, of_residual, gradient)
        ]
        return (of_residual.add_(of_centred), *of_channels, of_alpha1, of_alpha2, of_scale, None)


class SingleSign(nn.Module):
    """Binarize an activation to one bit: `sign(alpha1 · (x - threshold))`.

    `threshold` holds one number per input channel, or one for all; `alpha1` is a learned scalar.
    """

    def __init__(self, channel_shape: tuple[int, ...], *, learned: bool) -> None:
        """`channel_shape` broadcasts the numbers against the input, batch left out.

        What is not `learned` is a threshold of 0 and an alpha of 1.
        """
        super().__init__()
        self.threshold = _small(channel_shape, learned=learned)
        self.alpha1 = nn.Parameter(torch.ones(()), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        """Binarize `x`; the result has its shape. In eval mode signs have no gradient."""
        centred = x - self.threshold
        if self.training:
            one = torch.ones((), dtype=x.dtype, device=x.device)
            result: Tensor = WeightSign.apply(  # type: ignore[no-untyped-call]
                centred, self.alpha1, one
            )
            return result
        return torch.where(self.alpha1 * centred >= 0, 1.0, -1.0)


class DualScale(SingleSign):
    """Binarize an activation to two bits with one common scale: `b1 + s·b2 - shift2`.

    `b1 = sign(alpha1 · (x - threshold))`, `r = x - b1 - shift1`, `s = mean |r|` over `scale_axes`,
    `b2 = sign(alpha2 · r)`. `threshold`, `shift1`, `shift2` (the paper's θ, θ1, θ2) hold one number
    per input channel, or one for all; both alphas are learned scalars and may become negative.
    Without axes, s is one learned number, the parameter `scale`.
    """

    def __init__(
        self,
        channel_shape: tuple[int, ...],
        scale_axes: tuple[int, ...],
        *,
        learned: bool,
        shifted: bool = True,
    ) -> None:
        """As `SingleSign`; shifts that are not `learned` are 0, and alphas 1.

        Without `shifted`, shift2 is 0 in any case.
        """
        super().__init__(channel_shape, learned=learned)
        self.scale_axes = scale_axes
        self.shift1 = _small(channel_shape, learned=learned)
        self.shift2 = _small(channel_shape, learned=learned and shifted)
        self.alpha2 = nn.Parameter(torch.ones(()), requires_grad=learned)
        self.scale = (
            None if scale_axes else nn.Parameter(torch.tensor(0.5))  # mean |r| behind a batch norm
        )

    def forward(self, x: Tensor) -> Tensor:
        """Binarize `x`; the result has its shape. In eval mode signs have no gradient."""
        if self.training:
            shifts = (self.threshold, self.shift1, self.shift2)
            result: Tensor = DualScaleSign.apply(  # type: ignore[no-untyped-call]
                x, *shifts, self.alpha1, self.alpha2, self.scale, self.scale_axes
            )
            return result
        # Plain operators that every exporter knows.
        b1 = super().forward(x)
        residual = x - b1 - self.shift1
        b2 = torch.where(self.alpha2 * residual >= 0, 1.0, -1.0)
        if self.scale is not None:
            return b1 + self.scale * b2 - self.shift2
        scale = residual.abs().mean(self.scale_axes, keepdim=True)
        return b1 + scale * b2 - self.shift2


def _small(shape: tuple[int, ...], *, learned: bool) -> nn.Parameter:
    """A parameter to be learned from close to 0, or 0 forever."""
    return nn.Parameter(1e-3 * learned * torch.rand(shape), requires_grad=learned)
