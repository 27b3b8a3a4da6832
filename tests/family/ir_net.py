"""IR-Net (CVPR 2020): weights balanced and standardised per output channel, then sign times 2^n."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, Member
from .parts import LatentConv2d, bake


def balanced(weight: Tensor) -> Tensor:
    """Libra parameter binarization's first half: zero mean and unit deviation."""
    flat = weight.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / flat.std(1, keepdim=True)).view_as(weight)


def power_of_two(weight: Tensor) -> Tensor:
    """The power of two next to mean |w|, per output channel: a shift in hardware."""
    mean = weight.abs().flatten(1).mean(1).view(-1, 1, 1, 1)
    return torch.pow(2.0, torch.round(torch.log2(mean)))


def shifted_sign(weight: Tensor) -> Tensor:
    weight = balanced(weight)
    return weight.sign() * power_of_two(weight).detach()


class Net(nn.Module):
    """Two convolutions with a shortcut each and Hardtanh between."""

    def __init__(self, *, baked: bool) -> None:
        super().__init__()
        self.conv1 = self._convolution(baked)
        self.norm1 = nn.BatchNorm2d(9)
        self.conv2 = self._convolution(baked)
        self.norm2 = nn.BatchNorm2d(9)

    @staticmethod
    def _convolution(baked: bool) -> nn.Conv2d:
        conv = LatentConv2d(9, 9, 3, padding=1, bias=False, binarize=shifted_sign)
        if not baked:
            return conv
        plain = nn.Conv2d(9, 9, 3, padding=1, bias=False)
        plain.weight.data = balanced(conv.weight.data)
        return bake(plain, power_of_two(plain.weight.data))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardtanh(self.norm1(self.conv1(torch.sign(x))) + x)
        return functional.hardtanh(self.norm2(self.conv2(torch.sign(x))) + x)


_EXPECTED = {"conv1": BINARY, "conv2": BINARY}

MEMBERS = (
    Member(
        "ir_net", lambda: (Net(baked=False), torch.randn(1, 9, 6, 7)), _EXPECTED, zeros="unlikely"
    ),
    Member(
        "ir_net_baked",
        lambda: (Net(baked=True), torch.randn(1, 9, 6, 7)),
        _EXPECTED,
        zeros="unlikely",
    ),
)
