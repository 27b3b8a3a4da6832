"""XNOR-Net (ECCV 2016): signs of normalised activations, σ = mean |w| per output channel.

The paper multiplies the sums by a map K: |x| averaged over channels, then over the window of each
sum. K stands after the sum, one number per position of the output, so it is no obstacle. What the
paper approximates, the average |x| at each position of the *input* inside the sum, is one: it
varies over a 3x3 window. It is none for a 1x1 kernel, which sums over channels only.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, INPUT_IS_REAL, INPUT_SCALE_VARIES, WEIGHTS_ARE_REAL, Member
from .parts import LatentConv2d, bake
from .weights import mean_per_output


def magnitude(x: Tensor) -> Tensor:
    """|x| averaged over channels."""
    return x.abs().mean(1, keepdim=True)


class Simple(nn.Module):
    """The form that most use: norm, sign, convolution with σ per output channel; no K."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6, eps=1e-4)
        self.conv1 = LatentConv2d(6, 10, 3, padding=1, binarize=mean_per_output)
        self.norm2 = nn.BatchNorm2d(10, eps=1e-4)
        self.conv2 = LatentConv2d(10, 7, 3, stride=2, binarize=mean_per_output)
        self.last = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = functional.relu(self.conv1(torch.sign(self.norm1(x))))
        x = functional.relu(self.conv2(torch.sign(self.norm2(x))))
        return self.last(x.mean((2, 3)))


class PooledK(nn.Module):
    """K by average pooling: the zeros of the padding count."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.conv = LatentConv2d(6, 5, 3, padding=1, bias=False, binarize=mean_per_output)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.conv(torch.sign(x)) * functional.avg_pool2d(magnitude(x), 3, 1, 1)


class Box(nn.Module):
    """A convolution with a kernel of 1/9: a float layer of equal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.full((1, 1, 3, 3), 1 / 9))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.kernel, padding=1)


class ConvolvedK(nn.Module):
    """K by a convolution, as the paper writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Box()
        self.conv = bake(nn.Conv2d(6, 5, 3, padding=1, bias=False), 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.sign(x)) * self.box(magnitude(x))


class InsideK(nn.Module):
    """The scale in front of the sum: what K approximates."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = bake(nn.Conv2d(6, 5, kernel, bias=False), 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(magnitude(x) * torch.sign(x))


def _example() -> Tensor:
    return torch.randn(1, 6, 7, 5)


MEMBERS = (
    Member(
        "xnor_net",
        lambda: (Simple(), torch.randn(1, 3, 8, 8)),
        # Both real layers also fail on their inputs; the weights are looked at first.
        {"first": WEIGHTS_ARE_REAL, "conv1": BINARY, "conv2": BINARY, "last": WEIGHTS_ARE_REAL},
        zeros="unlikely",
    ),
    Member("xnor_net_pooled_k", lambda: (PooledK(), _example()), {"conv": BINARY}, "unlikely"),
    Member(
        "xnor_net_convolved_k",
        lambda: (ConvolvedK(), _example()),
        {"conv": BINARY, "box": INPUT_IS_REAL},
        "unlikely",
    ),
    Member(
        "xnor_net_k_inside",
        lambda: (InsideK(3), _example()),
        {"conv": INPUT_SCALE_VARIES},
        "unlikely",
    ),
    Member(
        "xnor_net_k_inside_pointwise",
        lambda: (InsideK(1), _example()),
        {"conv": BINARY},
        "unlikely",
    ),
)
