"""Real-to-Binary (ICLR 2020): a squeeze-and-excite gate on the real activation scales the sums.

The gate is one number per output channel, after the sum, so popcounts stay. The same gate in front
of the sum, one number per input channel, would forbid them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, INPUT_SCALE_VARIES, WEIGHTS_ARE_REAL, Member
from .parts import bake, per_output


class Gate(nn.Module):
    """From the mean of every channel to a factor for every channel, by two real layers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(inputs, 3)
        self.excite = nn.Linear(3, outputs)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(pooled))))
        return gate.view(gate.shape[0], -1, 1, 1)


class Gated(nn.Module):
    """Norm, sign, convolution, gate, PReLU, shortcut."""

    def __init__(self, *, in_front: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(9)
        self.gate = Gate(9, 9)
        conv = nn.Conv2d(9, 9, 3, padding=1, bias=False)
        self.conv = bake(conv, per_output(conv))
        self.act = nn.PReLU(9)
        self.in_front = in_front

    def forward(self, x: Tensor) -> Tensor:
        gate, b = self.gate(x), torch.sign(self.norm(x))
        y = self.conv(gate * b) if self.in_front else self.conv(b) * gate
        return self.act(y) + x


def _member(name: str, expected: str, *, in_front: bool) -> Member:
    return Member(
        name,
        lambda: (Gated(in_front=in_front), torch.randn(1, 9, 6, 7)),
        {
            "conv": expected,
            "gate/squeeze": WEIGHTS_ARE_REAL,
            "gate/excite": WEIGHTS_ARE_REAL,
        },
        zeros="unlikely",
    )


MEMBERS = (
    _member("real_to_binary", BINARY, in_front=False),
    _member("real_to_binary_gate_in_front", INPUT_SCALE_VARIES, in_front=True),
)
