"""BiFSMNv2 (TNNLS 2023) with this project's 1-bit scales, and its float twin from the same code."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bicompile.model.config import NetworkConfig
from bicompile.model.fast import OneSlope
from bicompile.model.layers import Convolution, Layer, Linear, Memory, Pointwise


class Outcome(NamedTuple):
    """What one width made of a batch."""

    logits: Tensor
    """(N, classes), before softmax."""
    blocks: dict[int, Tensor]
    """The output of every block that ran, (N, memory, steps), by block index."""


class Front(nn.Module):
    """(N, 1, mels, frames) → (N, 2·front, mels/4, frames/4); the first convolution is float."""

    def __init__(self, channels: int, *, binary: bool) -> None:
        """Make a front of `channels`, then twice as many."""
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 5, stride=2, padding=2)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act1 = OneSlope()
        self.conv2 = Convolution(channels, 2 * channels, binary=binary)
        self.norm2 = nn.BatchNorm2d(2 * channels)
        self.act2 = OneSlope()

    def forward(self, x: Tensor) -> Tensor:
        """Apply both convolutions."""
        x = self.act1(self.norm1(self.conv1(x)))
        result: Tensor = self.act2(self.norm2(self.conv2(x)))
        return result


class Block(nn.Module):
    """(N, memory, T) → (N, memory, T): depthwise memory, then two 1x1 convolutions.

    Every width has its own last norm and PReLU; all else is shared between widths.
    """

    def __init__(self, config: NetworkConfig, widths: tuple[int, ...]) -> None:
        """`widths` are those that run this block."""
        super().__init__()
        memory, hidden, binary = config.memory, config.hidden, config.binary
        self.memory = Memory(memory, config.taps_left, config.taps_right, binary=binary)
        self.memory_norm = nn.BatchNorm1d(memory)
        self.memory_act = OneSlope()
        self.expand = Pointwise(memory, hidden, binary=binary)
        self.expand_norm = nn.BatchNorm1d(hidden)
        self.expand_act = OneSlope()
        self.project = Pointwise(hidden, memory, binary=binary)
        self.project_norm = nn.ModuleDict({str(width): nn.BatchNorm1d(memory) for width in widths})
        self.project_act = nn.ModuleDict({str(width): OneSlope() for width in widths})

    def forward(self, x: Tensor, width: int) -> Tensor:
        """Apply the block with the norm of `width`."""
        x = self.memory_act(self.memory_norm(self.memory(x))) + x
        y = self.expand_act(self.expand_norm(self.expand(x)))
        y = self.project_norm[str(width)](self.project(y))
        result: Tensor = self.project_act[str(width)](y) + x
        return result


class BiFSMNv2(nn.Module):
    """(N, 1, mels, frames) float32 log-mel in dB → (N, classes) float32 logits.

    With `config.binary` all but the first convolution and the classifier are 1-bit. Only blocks
    that some width runs exist; their names are their indices, so `blocks.7` is the same block in
    every network of the same shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Make a network with random weights, drawn from torch's global generator."""
        super().__init__()
        self.config = config
        runs = {
            index: tuple(width for width in config.widths if index in config.blocks_of(width))
            for index in range(config.blocks)
        }
        self.front = Front(config.front, binary=config.binary)
        inputs = 2 * config.front * config.mels // 4
        self.linear = Linear(inputs, config.memory, binary=config.binary)
        self.linear_act = OneSlope()
        self.blocks = nn.ModuleDict(
            {str(index): Block(config, widths) for index, widths in runs.items() if widths}
        )
        self.classifier = nn.Linear(config.memory * config.steps, len(config.labels))

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """Return the logits of `width`; by default the first width of the configuration."""
        width = self.config.widths[0] if width is None else width
        return self.run(self.embed(x), width).logits

    def embed(self, x: Tensor) -> Tensor:
        """Run what all widths share before the blocks: → (N, memory, steps)."""
        x = self.front(x)
        frames = x.flatten(1, 2).transpose(1, 2)
        embedded: Tensor = self.linear_act(self.linear(frames)).transpose(1, 2)
        return embedded.contiguous()

    def run(self, embedded: Tensor, width: int) -> Outcome:
        """Run the blocks of one width on what `embed` gave."""
        blocks = {}
        x = embedded
        for index in self.config.blocks_of(width):
            x = blocks[index] = self.blocks[str(index)](x, width)
        return Outcome(self.classifier(x.flatten(1)), blocks)

    def freeze(self) -> "BiFSMNv2":
        """Set eval mode and bake every binary layer (see `Layer.freeze`); returns itself."""
        for module in self.modules():
            if isinstance(module, Layer):
                module.freeze()
        return self.eval()

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called."""
        return self.linear.frozen

    def at_width(self, width: int) -> "BiFSMNv2":
        """Return a copy that has only one width's blocks and norms, under the same names.

        Its mode is this network's, and it is frozen when this network is.
        """
        if width not in self.config.widths:
            raise ValueError(f"the network has widths {self.config.widths}, not {width}")
        narrow = BiFSMNv2(replace(self.config, widths=(width,)))
        state = self.state_dict()
        narrow.load_state_dict({name: state[name] for name in narrow.state_dict()})
        narrow.train(self.training)
        return narrow.freeze() if self.frozen else narrow


def start_from(student: BiFSMNv2, teacher: BiFSMNv2) -> None:
    """Copy every weight and norm of a float `teacher` into the `student` of the same shape.

    What only the student has (thresholds and alphas) keeps its value; a norm that only the student
    has, because the teacher was trained for fewer widths, takes that of the teacher's first width.
    """
    source = teacher.state_dict()
    first = str(teacher.config.widths[0])
    state = student.state_dict()
    with torch.no_grad():
        for name, value in state.items():
            parts = name.split(".")
            if len(parts) > 3 and parts[2] in ("project_norm", "project_act"):
                name = ".".join([*parts[:3], first, *parts[4:]])
            if name in source:
                value.copy_(source[name])
