"""ReActNet (ECCV 2020): learned shifts before every sign, and around every PReLU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, WEIGHTS_ARE_REAL, Member
from .parts import LatentConv2d, bake, per_output
from .signs import residue_of_polynomial
from .weights import residue


class RSign(nn.Module):
    """sign(x + β) with a learned β per channel."""

    def __init__(self, channels: int, *, baked: bool) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, channels, 1, 1) / 4)
        self.written = torch.sign if baked else residue_of_polynomial

    def forward(self, x: Tensor) -> Tensor:
        return self.written(x + self.shift.expand_as(x))


class RPReLU(nn.Module):
    """PReLU(x − γ) + ζ with a slope and two shifts per channel; some slopes are negative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.randn(1, channels, 1, 1) / 4)
        self.prelu = nn.PReLU(channels)
        self.prelu.weight.data.normal_(0.2, 0.3)
        self.after = nn.Parameter(torch.randn(1, channels, 1, 1) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x - self.before) + self.after


def _convolution(channels: int, kernel: int, stride: int, baked: bool) -> nn.Conv2d:
    if not baked:
        return LatentConv2d(
            channels, channels, kernel, stride, kernel // 2, bias=False, binarize=residue
        )
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, bias=False)
    return bake(conv, per_output(conv))


class Block(nn.Module):
    """3x3, then 1x1, with shortcuts; where channels double, two 1x1 paths lie side by side."""

    def __init__(self, channels: int, *, wider: bool, baked: bool) -> None:
        super().__init__()
        self.stride = 2 if wider else 1
        self.sign3 = RSign(channels, baked=baked)
        self.conv3 = _convolution(channels, 3, self.stride, baked)
        self.norm3 = nn.BatchNorm2d(channels)
        self.act3 = RPReLU(channels)
        self.sign1 = RSign(channels, baked=baked)
        self.conv1a = _convolution(channels, 1, 1, baked)
        self.norm1a = nn.BatchNorm2d(channels)
        if wider:
            self.conv1b = _convolution(channels, 1, 1, baked)
            self.norm1b = nn.BatchNorm2d(channels)
        self.wider = wider
        self.act1 = RPReLU(2 * channels if wider else channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.avg_pool2d(x, 2) if self.wider else x
        x = self.act3(self.norm3(self.conv3(self.sign3(x))) + shortcut)
        b = self.sign1(x)
        y = self.norm1a(self.conv1a(b)) + x
        if self.wider:
            y = torch.cat([y, self.norm1b(self.conv1b(b)) + x], 1)
        return self.act1(y)


class ReActNet(nn.Module):
    def __init__(self, *, baked: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 7, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(7)
        self.block0 = Block(7, wider=False, baked=baked)
        self.block1 = Block(7, wider=True, baked=baked)
        self.last = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.block0(self.norm(self.first(x))))
        return self.last(x.mean((2, 3)))


_EXPECTED = {
    "first": WEIGHTS_ARE_REAL,
    "block0/conv3": BINARY,
    "block0/conv1a": BINARY,
    "block1/conv3": BINARY,
    "block1/conv1a": BINARY,
    "block1/conv1b": BINARY,
    "last": WEIGHTS_ARE_REAL,
}

MEMBERS = (
    Member(
        "react_net",
        lambda: (ReActNet(baked=True), torch.randn(1, 3, 8, 8)),
        _EXPECTED,
        zeros="unlikely",
    ),
    Member(
        "react_net_with_residues",
        lambda: (ReActNet(baked=False), torch.randn(1, 3, 8, 8)),
        _EXPECTED,
        zeros="unlikely",
    ),
)
