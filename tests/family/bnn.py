"""BinaryNet (NIPS 2016): ±1 everywhere, and only norms and max-pooling between the signs.

Where a norm and a sign follow a sum, both are one comparison of an integer per channel; a γ below
zero turns it, and a γ of zero makes it constant.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, INPUT_IS_REAL, Member, Zeros
from .parts import Function, bake, sign


class BinaryNet(nn.Module):
    def __init__(self, written: Function) -> None:
        super().__init__()
        self.written = written
        self.conv1 = bake(nn.Conv2d(3, 10, 3, padding=1))
        self.norm1 = nn.BatchNorm2d(10)
        self.conv2 = bake(nn.Conv2d(10, 13, 3, padding=1))
        self.norm2 = nn.BatchNorm2d(13)
        self.fc1 = bake(nn.Linear(13 * 4 * 4, 21))
        self.norm3 = nn.BatchNorm1d(21)
        self.fc2 = bake(nn.Linear(21, 5))
        self.norm4 = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.written(functional.hardtanh(self.norm1(self.conv1(x))))
        x = functional.max_pool2d(self.conv2(x), 2)
        x = self.written(functional.hardtanh(self.norm2(x)))
        x = self.written(functional.hardtanh(self.norm3(self.fc1(x.flatten(1)))))
        return torch.log_softmax(self.norm4(self.fc2(x)), 1)


def _member(name: str, written: Function, zeros: Zeros) -> Member:
    return Member(
        name,
        lambda: (BinaryNet(written), torch.randn(1, 3, 8, 8)),
        {"conv1": INPUT_IS_REAL, "conv2": BINARY, "fc1": BINARY, "fc2": BINARY},
        zeros=zeros,
    )


class NormBeforeSign(nn.Module):
    """Norm, sign, sum, twice: the second norm and sign are integer thresholds."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm1d(17)
        self.conv1 = bake(nn.Conv1d(17, 12, 1, bias=False))
        self.norm2 = nn.BatchNorm1d(12)
        self.conv2 = bake(nn.Conv1d(12, 6, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(sign(self.norm2(self.conv1(sign(self.norm1(x))))))


MEMBERS = (
    _member("bnn", sign, "none"),
    _member("bnn_written_sign", torch.sign, "unlikely"),
    Member(
        "bnn_norm_before_sign",
        lambda: (NormBeforeSign(), torch.randn(1, 17, 5)),
        {"conv1": BINARY, "conv2": BINARY},
    ),
)
