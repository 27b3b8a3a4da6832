"""Batch norm whose running statistics suit what they normalise: each width has its own.

Batch norm proper divides every channel by its own deviation. Sums of K signs deviate much alike in
all channels, so a norm may also divide all by one number, the root of their mean variance.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicompile.model.fast import join, rows_of, split

MOMENTUM = 0.02  # weight of the newest batch, once there were 1/MOMENTUM of them
EPSILON = 1e-5


class OneFactorNorm(torch.autograd.Function):
    """Normalise rows (R, C) by the means of their columns and one deviation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(x − mean) · weight / √(variance + ε) + bias`, mean (C,) and variance ().

        `weight` has one element; the variance is the mean of the columns'.
        """
        mean = x.mean(0)
        y = x - mean
        variance = y.square().mean()
        y.mul_(torch.rsqrt(variance + EPSILON))
        ctx.save_for_backward(y, weight, variance)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, y, weight), mean, variance

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias."""
        y, weight, variance = ctx.saved_tensors
        of_bias = gradient.sum(0)
        of_weight = torch.dot(gradient.flatten(), y.flatten()).view(1)
        of_x = (gradient - of_bias / len(y)).addcmul_(y, of_weight, value=-1 / y.numel())
        return of_x.mul_(weight * torch.rsqrt(variance + EPSILON)), of_weight, of_bias


class Norm(nn.Module):
    """Batch norm over axis 1 of (N, channels, ...), with running statistics for each of `widths`.

    Weight and bias are shared. The running statistics are the mean over all batches so far and,
    after 1/MOMENTUM of them, an exponential one: as good after a short run as after a long one.
    Without `widths` there is one set of statistics, and `forward` takes no width.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...] = (), *, one_factor: bool = False
    ) -> None:
        """Start with weight 1, bias 0 and statistics of nothing.

        With `one_factor` there is one weight for all channels, and one variance.
        """
        super().__init__()
        self.one_factor = one_factor
        factors = 1 if one_factor else channels
        self.weight = nn.Parameter(torch.ones(factors))
        self.bias = nn.Parameter(torch.zeros(channels))
        for end in ends_of(widths):
            self.register_buffer(f"running_mean{end}", torch.zeros(channels))
            self.register_buffer(f"running_var{end}", torch.ones(factors))
            self.register_buffer(f"num_batches_tracked{end}", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, widths: tuple[int, ...] = ()) -> Tensor:
        """Normalise `x`: the batches of `widths`, of one size, one after the other.

        In training each is normalised by itself, which updates the statistics of its width; else
        by these. Raises AttributeError for a width that the norm does not have.
        """
        batches = zip(split(x, max(1, len(widths))), ends_of(widths), strict=True)
        return join([self._normalise(batch, end) for batch, end in batches])

    def _normalise(self, x: Tensor, end: str) -> Tensor:
        mean = self.get_buffer(f"running_mean{end}")
        variance = self.get_buffer(f"running_var{end}")
        if not self.training:
            weight: Tensor = self.weight
            if self.one_factor:
                weight, variance = weight.expand_as(mean), variance.expand_as(mean)
            return functional.batch_norm(x, mean, variance, weight, self.bias, eps=EPSILON)
        seen = self.get_buffer(f"num_batches_tracked{end}")
        seen += 1
        momentum = max(MOMENTUM, 1 / seen.item())
        # Of rows batch norm is several times as fast as of (N, C, T), and the same.
        rows = rows_of(x) if x.dim() == 3 or self.one_factor else x
        if self.one_factor:
            y, of_columns, of_all = OneFactorNorm.apply(  # type: ignore[no-untyped-call]
                rows, self.weight, self.bias
            )
            with torch.no_grad():
                mean.lerp_(of_columns, momentum)
                variance.lerp_(of_all, momentum)
        else:
            y = functional.batch_norm(
                rows,
                mean,
                variance,
                self.weight,
                self.bias,
                training=True,
                momentum=momentum,
                eps=EPSILON,
            )
        if rows is not x:
            y = y.view(len(x), *x.shape[2:], -1).movedim(-1, 1)
        result: Tensor = y
        return result

    def folded(self, end: str) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift that it is in eval mode, without a gradient.

        `end` is one of `ends_of(widths)`.
        """
        mean = self.get_buffer(f"running_mean{end}")
        variance = self.get_buffer(f"running_var{end}")
        factor = self.weight.detach() / torch.sqrt(variance + EPSILON)
        return factor, self.bias.detach() - mean * factor


class FixedNorm(nn.Module):
    """What a `Norm` has become: `x · factor + shift`, for each of its widths.

    Factors go on learning; shifts are buffers and stay as they are.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...] = (), *, one_factor: bool = False
    ) -> None:
        """Start with factors of 1, one for all channels or one for each, and shifts of 0."""
        super().__init__()
        factors = 1 if one_factor else channels
        for end in ends_of(widths):
            self.register_parameter(f"factor{end}", nn.Parameter(torch.ones(factors)))
            self.register_buffer(f"shift{end}", torch.zeros(channels))

    def forward(self, x: Tensor, widths: tuple[int, ...] = ()) -> Tensor:
        """Apply it to `x` (N, channels, ...) as `Norm.forward` does."""
        shape = (-1, *[1] * (x.dim() - 2))
        return join(
            [
                batch * self.get_parameter(f"factor{end}").view(shape)
                + self.get_buffer(f"shift{end}").view(shape)
                for batch, end in zip(split(x, max(1, len(widths))), ends_of(widths), strict=True)
            ]
        )


def ends_of(widths: tuple[int, ...]) -> list[str]:
    """What the names of a norm's statistics end with, for each of its widths."""
    return [f"_{width}" for width in widths] or [""]
