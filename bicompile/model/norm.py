"""Batch norm whose running statistics suit what they normalise: each width has its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicompile.model.fast import join, rows_of, split

MOMENTUM = 0.02  # weight of the newest batch, once there were 1/MOMENTUM of them
EPSILON = 1e-5


class Norm(nn.Module):
    """Batch norm over axis 1 of (N, channels, ...), with running statistics for each of `widths`.

    Weight and bias are shared. The running statistics are the mean over all batches so far and,
    after 1/MOMENTUM of them, an exponential one: as good after a short run as after a long one.
    Without `widths` there is one set of statistics, and `forward` takes no width.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = ()) -> None:
        """Start with weight 1, bias 0 and statistics of nothing."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        for end in [f"_{width}" for width in widths] or [""]:
            self.register_buffer(f"running_mean{end}", torch.zeros(channels))
            self.register_buffer(f"running_var{end}", torch.ones(channels))
            self.register_buffer(f"num_batches_tracked{end}", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, widths: tuple[int, ...] = ()) -> Tensor:
        """Normalise `x`: the batches of `widths`, of one size, one after the other.

        In training each is normalised by itself, which updates the statistics of its width; else
        by these. Raises AttributeError for a width that the norm does not have.
        """
        if not widths:
            return self._normalise(x, "")
        batches = zip(split(x, len(widths)), widths, strict=True)
        return join([self._normalise(batch, f"_{width}") for batch, width in batches])

    def _normalise(self, x: Tensor, end: str) -> Tensor:
        mean = self.get_buffer(f"running_mean{end}")
        variance = self.get_buffer(f"running_var{end}")
        if not self.training:
            return functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=EPSILON)
        seen = self.get_buffer(f"num_batches_tracked{end}")
        seen += 1
        # Of rows batch norm is several times as fast as of (N, C, T), and the same.
        y = functional.batch_norm(
            rows_of(x) if x.dim() == 3 else x,
            mean,
            variance,
            self.weight,
            self.bias,
            training=True,
            momentum=max(MOMENTUM, 1 / seen.item()),
            eps=EPSILON,
        )
        return y.view(x.shape[0], -1, x.shape[1]).transpose(1, 2) if x.dim() == 3 else y
