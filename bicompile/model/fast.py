"""Operators of the network whose torch versions are slow on a CPU, made several times faster.

In training an activation (N, C, T) lies in memory as (N, T, C), so that the numbers of all channels
at a frame are neighbours: what is one number per channel then meets whole rows, and a 1x1
convolution is a single matrix product. In eval mode all is torch's own, so that an export shows
what everyone knows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SlopeFunction(torch.autograd.Function):
    """PReLU with a single slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        """Return x where it is positive, elsewhere slope · x; `slope` has one element."""
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and slope."""
        x, slope = ctx.saved_tensors
        of_positive = torch.ops.aten.threshold_backward(gradient, x, 0)
        of_slope = x.clamp_max(0).mul_(gradient).sum().view(1)
        return of_positive.lerp_(gradient, slope), of_slope


class OneSlope(nn.PReLU):
    """PReLU with a single slope; the backward of torch's takes ten times as long as its forward."""

    def __init__(self) -> None:
        """Start with the slope 1/4."""
        super().__init__(num_parameters=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x where it is positive, elsewhere slope · x."""
        if not self.training:
            return super().forward(x)
        result: Tensor = SlopeFunction.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return result


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `conv1d` of (N, C, T) with (outputs, C, 1), as one matrix product."""
    return functional.linear(x.transpose(1, 2), weight.squeeze(2), bias).transpose(1, 2)


class DepthwiseConv(torch.autograd.Function):
    """`conv1d` of (N, C, T) with (C, 1, taps), every channel alone, without padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return (N, C, T - taps + 1)."""
        ctx.save_for_backward(x, weight)
        frames = x.shape[2] - weight.shape[2] + 1
        taps = weight.unbind(2)
        result = torch.addcmul(bias[:, None], x[:, :, :frames], taps[0])
        for index, tap in enumerate(taps[1:], 1):
            result.addcmul_(x[:, :, index : index + frames], tap)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        frames = gradient.shape[2]
        of_x, of_taps = torch.zeros_like(x), []
        for index, tap in enumerate(weight.unbind(2)):
            of_x[:, :, index : index + frames].addcmul_(gradient, tap)
            of_taps.append((x[:, :, index : index + frames] * gradient).sum((0, 2)))
        return of_x, torch.stack(of_taps, 1)[:, None], gradient.sum((0, 2))


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `conv1d(x, weight, bias)` of every channel alone, with the faster backward."""
    result: Tensor = DepthwiseConv.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def pad_frames(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Pad the last axis of (N, C, T) with zeros; the memory layout stays."""
    return functional.pad(x.transpose(1, 2), (0, 0, *padding)).transpose(1, 2)


def rows_of(x: Tensor) -> Tensor:
    """View (N, C, ...) as the rows (N·..., C); a copy where channels are not last in memory."""
    return x.movedim(1, -1).flatten(0, -2)


def join(parts: Sequence[Tensor]) -> Tensor:
    """Join batches (N, C, T) along the first axis; the memory layout stays."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.transpose(1, 2) for part in parts]).transpose(1, 2)


def split(x: Tensor, count: int) -> list[Tensor]:
    """Undo `join` of `count` batches of the same size."""
    if count == 1:
        return [x]
    return [part.transpose(1, 2) for part in x.transpose(1, 2).chunk(count)]
