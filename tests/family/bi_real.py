"""Bi-Real Net (ECCV 2018): a real shortcut around every binary convolution, its norm before it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, WEIGHTS_ARE_REAL, Member
from .parts import Function, LatentConv2d, bake, per_output
from .signs import residue_of_polynomial
from .weights import residue


class Block(nn.Module):
    """x + norm(conv(sign(x))), or its shape with half the positions and twice the channels."""

    def __init__(self, conv: nn.Conv2d, sign: Function, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.sign = sign
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self.sign(x)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Shortcut(nn.Module):
    """Average pooling and a real 1x1 convolution: the one that stays float in every such net."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(functional.avg_pool2d(x, 2)))


def _baked(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return bake(conv, per_output(conv))


def _latent(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return LatentConv2d(inputs, outputs, 3, stride, 1, bias=False, binarize=residue)


class BiReal(nn.Module):
    def __init__(self, *, baked: bool) -> None:
        super().__init__()
        make, sign = (_baked, torch.sign) if baked else (_latent, residue_of_polynomial)
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.block0 = Block(make(8, 8, 1), sign)
        self.block1 = Block(make(8, 16, 2), sign, Shortcut(8, 16))
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.block0(self.norm(self.first(x))))
        return self.last(x.mean((2, 3)))


_EXPECTED = {
    "first": WEIGHTS_ARE_REAL,
    "block0/conv": BINARY,
    "block1/conv": BINARY,
    "block1/shortcut/conv": WEIGHTS_ARE_REAL,
    "last": WEIGHTS_ARE_REAL,
}

MEMBERS = (
    Member(
        "bi_real",
        lambda: (BiReal(baked=True), torch.randn(1, 3, 8, 8)),
        _EXPECTED,
        zeros="unlikely",
    ),
    Member(
        "bi_real_with_residues",
        lambda: (BiReal(baked=False), torch.randn(1, 3, 8, 8)),
        _EXPECTED,
        zeros="unlikely",
    ),
)
