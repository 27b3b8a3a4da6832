"""BiFSMNv2 (TNNLS 2023) with this project's 1-bit scales, and its float twin from the same code."""

import re
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicompile.model.config import NetworkConfig
from bicompile.model.fast import OneSlope, join, split
from bicompile.model.layers import Convolution, Layer, Linear, Memory, Pointwise
from bicompile.model.norm import FixedNorm, Norm


class Outcome(NamedTuple):
    """What one width made of a batch."""

    logits: Tensor
    """(N, classes), before softmax."""
    blocks: dict[int, Tensor]
    """The output of every block that ran, (N, memory, steps), by block index."""


def _norm_of(
    config: NetworkConfig, channels: int, widths: tuple[int, ...] = ()
) -> Norm | FixedNorm:
    """The norm behind a layer that is binary in a student."""
    one_factor = config.binary and config.numbers == "layer"
    kind = FixedNorm if config.binary and config.settled else Norm
    return kind(channels, widths, one_factor=one_factor)


class Front(nn.Module):
    """(N, 1, mels, frames) → (N, 2·front, mels/4, frames/4); the first convolution is float."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make a front of `config.front` channels, then twice as many."""
        super().__init__()
        channels = config.front
        self.conv1 = nn.Conv2d(1, channels, 5, stride=2, padding=2)
        self.norm1 = Norm(channels)
        self.act1 = OneSlope()
        self.conv2 = Convolution(channels, 2 * channels, config.of("front.conv2"))
        self.norm2 = _norm_of(config, 2 * channels)
        self.act2 = OneSlope()

    def forward(self, x: Tensor) -> Tensor:
        """Apply both convolutions."""
        x = self.act1(self.norm1(self.conv1(x)))
        result: Tensor = self.act2(self.norm2(self.conv2(x)))
        return result


class Block(nn.Module):
    """(N, memory, T) → (N, memory, T): depthwise memory, then two 1x1 convolutions.

    Every width has its own last norm and PReLU, and its own running statistics in the other norms;
    all else is shared between widths.
    """

    def __init__(self, config: NetworkConfig, index: int, widths: tuple[int, ...]) -> None:
        """`widths` are those that run this block."""
        super().__init__()
        memory, hidden, name = config.memory, config.hidden, f"blocks.{index}"
        self.memory = Memory(memory, config.of(f"{name}.memory"))
        self.memory_norm = _norm_of(config, memory, widths)
        self.memory_act = OneSlope()
        self.expand = Pointwise(memory, hidden, config.of(f"{name}.expand"))
        self.expand_norm = _norm_of(config, hidden, widths)
        self.expand_act = OneSlope()
        self.project = Pointwise(hidden, memory, config.of(f"{name}.project"))
        norms = {str(width): _norm_of(config, memory) for width in widths}
        self.project_norm = nn.ModuleDict(norms)
        self.project_act = nn.ModuleDict({str(width): OneSlope() for width in widths})

    def forward(self, x: Tensor, widths: tuple[int, ...]) -> Tensor:
        """Apply the block to the batches of `widths`, of one size, one after the other."""
        x = self.memory_act(self.memory_norm(self.memory(x), widths)) + x
        y = self.expand_act(self.expand_norm(self.expand(x), widths))
        batches = zip(split(self.project(y), len(widths)), map(str, widths), strict=True)
        return x + join(
            [self.project_act[width](self.project_norm[width](batch)) for batch, width in batches]
        )


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
        self.front = Front(config)
        inputs = 2 * config.front * config.mels // 4
        self.linear = Linear(inputs, config.memory, config.of("linear"))
        self.linear_act = OneSlope()
        self.blocks = nn.ModuleDict(
            {str(index): Block(config, index, widths) for index, widths in runs.items() if widths}
        )
        self.classifier = nn.Linear(config.memory * config.steps, len(config.labels))

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """Return the logits of `width`; by default the first width of the configuration."""
        width = self.config.widths[0] if width is None else width
        return self.run(self.embed(x), (width,))[width].logits

    def embed(self, x: Tensor) -> Tensor:
        """Run what all widths share before the blocks: → (N, memory, steps)."""
        x = self.front(x)
        frames = x.flatten(1, 2).transpose(1, 2)
        if self.training:  # (N, T, C) in memory from here on, see `fast`
            frames = frames.contiguous()
        embedded: Tensor = self.linear_act(self.linear(frames)).transpose(1, 2)
        return embedded if self.training else embedded.contiguous()

    def run(self, embedded: Tensor, widths: tuple[int, ...]) -> dict[int, Outcome]:
        """Run the blocks of some widths on what `embed` gave; a block runs once for all of them."""
        x = dict.fromkeys(widths, embedded)
        blocks: dict[int, dict[int, Tensor]] = {width: {} for width in widths}
        for index in range(self.config.blocks):
            running = tuple(width for width in widths if index in self.config.blocks_of(width))
            if running:
                y = self.blocks[str(index)](join([x[width] for width in running]), running)
                for width, batch in zip(running, split(y, len(running)), strict=True):
                    x[width] = blocks[width][index] = batch
        return {width: Outcome(self._classify(x[width]), blocks[width]) for width in widths}

    def _classify(self, x: Tensor) -> Tensor:
        if not self.training:
            logits: Tensor = self.classifier(x.flatten(1))
            return logits
        # The weight in the order of x in memory, so that neither x nor its gradient is reordered.
        weight = self.classifier.weight.view(-1, *x.shape[1:]).transpose(1, 2).flatten(1)
        return functional.linear(x.transpose(1, 2).flatten(1), weight, self.classifier.bias)

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

    def narrowed(self, one_bit: tuple[str, ...]) -> "BiFSMNv2":
        """Return a copy, in eval mode, whose layers named by `one_bit` see one bit.

        See `NetworkConfig.one_bit`. The first sign of what had two stays as it is.
        """
        narrow = BiFSMNv2(replace(self.config, one_bit=one_bit))
        state = self.state_dict()
        narrow.load_state_dict({name: state[name] for name in narrow.state_dict()})
        return narrow.to(next(iter(state.values())).device).eval()


def start_from(student: BiFSMNv2, teacher: BiFSMNv2) -> None:
    """Copy every weight and norm of a float `teacher` into the `student` of the same shape.

    What only the student has (thresholds and alphas) keeps its value; where it has one number for
    all channels, that is the mean of the teacher's. Norms and statistics that
    only the student has, because the teacher was trained for fewer widths, take those of the
    teacher's first width. The statistics count as those of no batch: they serve until the first.
    """
    source = teacher.state_dict()
    first = teacher.config.widths[0]
    with torch.no_grad():
        for name, value in student.state_dict().items():
            name = re.sub(r"(project_(norm|act))\.\d+", rf"\1.{first}", name)
            name = re.sub(r"(running_(mean|var))_\d+$", rf"\1_{first}", name)
            if name in source and "num_batches_tracked" not in name:
                given = source[name]
                value.copy_(given if given.shape == value.shape else given.mean())
