"""BiFSMNv2 (TNNLS 2023) with the scales of its authors' release, which differ from this project's.

Both scales are means along the last axis. By layer, along what one sum takes in:

- linear: s per frame, σ per row: both constant, so two popcounts.
- depthwise memory over time: s and σ per channel: both constant, so two popcounts. Zeros are padded
  before binarization and have bits.
- 1x1 convolution: σ = |w| for every weight, so σ·sign(w) = w is not binary; s per channel varies.
- second 2-d convolution: σ per row of a kernel varies, and s per channel and row.
- first convolution and classifier: real.

In the variant without norms the 1x1 convolutions are linear layers, and those do factor.
All signs and scaled weights end in a straight-through residue `(q − clip(x)) + clip(x)`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import (
    ALL,
    BINARY,
    DYNAMO_ONLY,
    WEIGHT_SCALE_VARIES,
    WEIGHTS_ARE_REAL,
    Exporter,
    Member,
)

MELS, FRAMES, FRONT, HIDDEN, MEMORY, BLOCKS, CLASSES = 8, 16, 3, 13, 10, 4, 5
STEPS = FRAMES // 4


class _Scaled(torch.autograd.Function):
    """b·s whose gradient does not see s; the older exporter cannot export it."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, scale: Tensor) -> Tensor:
        return b * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Quantizer(nn.Module):
    """s·sign(α·x) with a learned α, and the clip of α·x as its residue."""

    def __init__(self, *, custom: bool) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.randn(()))
        self.custom = custom

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        x = self.alpha * x
        scale = torch.ones(()) if scale is None else scale.detach()
        b = torch.sign(x)
        quantized = _Scaled.apply(b, scale) if self.custom else b * scale
        clipped = torch.clamp(x, -1, 1)
        return quantized.detach() - clipped.detach() + clipped


class Activation(nn.Module):
    """b1 + s·b2 − θ2: the sign of x − θ, and the scaled sign of what it leaves over."""

    def __init__(self, channels: int, trailing: int, *, custom: bool) -> None:
        super().__init__()
        shape = (1, channels, *[1] * trailing)
        self.threshold, self.shift1, self.shift2 = (
            nn.Parameter(torch.randn(shape) / 5) for _ in range(3)
        )
        self.first, self.second = Quantizer(custom=custom), Quantizer(custom=custom)

    def forward(self, x: Tensor) -> Tensor:
        b1 = self.first(x - self.threshold)
        left = x - b1 - self.shift1
        return b1 + self.second(left, left.abs().mean(-1, keepdim=True)) - self.shift2


class Binary(nn.Module):
    """A layer with real weights that are binarized whenever it runs, like its input."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear, *, custom: bool) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        trailing = self.weight.dim() - 2
        channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        self.activation = Activation(channels, trailing, custom=custom)
        self.quantizer = Quantizer(custom=custom)
        self.operate = self._operation(layer)

    @staticmethod
    def _operation(
        layer: nn.Conv1d | nn.Conv2d | nn.Linear,
    ) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        if isinstance(layer, nn.Linear):
            return functional.linear
        operate: Any = functional.conv1d if isinstance(layer, nn.Conv1d) else functional.conv2d
        stride, padding, groups = layer.stride, layer.padding, layer.groups
        return lambda x, w, bias: operate(x, w, bias, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(-1, keepdim=True)
        return self.operate(self.activation(x), self.quantizer(self.weight, scale), self.bias)


class Block(nn.Module):
    """Memory over time, then two 1x1 convolutions; the last norm and PReLU belong to one width."""

    def __init__(self, *, custom: bool) -> None:
        super().__init__()
        self.memory = Binary(nn.Conv1d(MEMORY, MEMORY, 5, groups=MEMORY), custom=custom)
        self.memory_norm, self.memory_act = nn.BatchNorm1d(MEMORY), nn.PReLU()
        self.expand = Binary(nn.Conv1d(MEMORY, HIDDEN, 1), custom=custom)
        self.expand_norm, self.expand_act = nn.BatchNorm1d(HIDDEN), nn.PReLU()
        self.project = Binary(nn.Conv1d(HIDDEN, MEMORY, 1), custom=custom)
        self.project_norm, self.project_act = nn.BatchNorm1d(MEMORY), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.memory_act(self.memory_norm(self.memory(functional.pad(x, (2, 2))))) + x
        y = self.expand_act(self.expand_norm(self.expand(x)))
        return self.project_act(self.project_norm(self.project(y))) + x


class BlockWithoutNorms(nn.Module):
    """Memory over time, then two linear layers over the channels."""

    def __init__(self, *, custom: bool) -> None:
        super().__init__()
        self.memory = Binary(nn.Conv1d(MEMORY, MEMORY, 5, groups=MEMORY), custom=custom)
        self.expand = Binary(nn.Linear(MEMORY, HIDDEN), custom=custom)
        self.act = nn.PReLU()
        self.project = Binary(nn.Linear(HIDDEN, MEMORY), custom=custom)

    def forward(self, x: Tensor) -> Tensor:
        x = self.memory(functional.pad(x, (2, 2))) + x
        y = self.project(self.act(self.expand(x.transpose(1, 2))))
        return y.transpose(1, 2) + x


class Net(nn.Module):
    """The network at one width: it runs every 2^width-th block, ending with the last."""

    def __init__(self, width: int = 0, *, norms: bool = True, custom: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, FRONT, 5, stride=2, padding=2)
        self.norm1, self.act1 = nn.BatchNorm2d(FRONT), nn.PReLU()
        conv2 = nn.Conv2d(FRONT, 2 * FRONT, 5, stride=2, padding=2)
        self.conv2 = Binary(conv2, custom=custom)
        self.norm2, self.act2 = nn.BatchNorm2d(2 * FRONT), nn.PReLU()
        self.linear = Binary(nn.Linear(2 * FRONT * MELS // 4, MEMORY), custom=custom)
        self.linear_act = nn.PReLU()
        stride = 2**width
        self.runs = [f"block{index}" for index in range(stride - 1, BLOCKS, stride)]
        for name in self.runs:
            block = Block(custom=custom) if norms else BlockWithoutNorms(custom=custom)
            self.add_module(name, block)
        self.classifier = nn.Linear(MEMORY * STEPS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)))
        x = x.flatten(1, 2).transpose(1, 2)
        x = self.linear_act(self.linear(x)).transpose(1, 2)
        for name in self.runs:
            x = self.get_submodule(name)(x)
        return self.classifier(x.flatten(1))


def _expected(width: int, pointwise: str) -> dict[str, str]:
    expected = {
        "conv1": WEIGHTS_ARE_REAL,
        "conv2": WEIGHT_SCALE_VARIES,
        "linear": BINARY,
        "classifier": WEIGHTS_ARE_REAL,
    }
    for index in range(2**width - 1, BLOCKS, 2**width):
        expected[f"block{index}/memory"] = BINARY
        expected[f"block{index}/expand"] = pointwise
        expected[f"block{index}/project"] = pointwise
    return expected


def _member(
    name: str,
    width: int = 0,
    *,
    norms: bool = True,
    custom: bool = False,
    exporters: tuple[Exporter, ...] = ALL,
) -> Member:
    return Member(
        name,
        lambda: (Net(width, norms=norms, custom=custom), torch.randn(1, 1, MELS, FRAMES)),
        _expected(width, WEIGHT_SCALE_VARIES if norms else BINARY),
        "unlikely",
        exporters,
    )


MEMBERS = (
    _member("bifsmnv2"),
    _member("bifsmnv2_width_1", width=1),
    _member("bifsmnv2_width_2", width=2),
    _member("bifsmnv2_without_norms", width=1, norms=False),
    _member("bifsmnv2_custom_function", width=2, custom=True, exporters=DYNAMO_ONLY),
)
