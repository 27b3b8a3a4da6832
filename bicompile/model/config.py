"""The shape of a network, as plain numbers that a checkpoint can carry."""

from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

Activation = Literal["dual", "learned-scale", "single"]
Binarizer = Literal["learned", "plain"]
Numbers = Literal["channel", "layer"]

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OTHERS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
OTHERS_OF_V2 = ("backward", "follow", "forward", "learn", "visual")
LABELS_12 = ("unknown", "silence", *KEYWORDS)
LABELS: dict[int, tuple[str, ...]] = {
    12: LABELS_12,
    20: (*KEYWORDS, *DIGITS),
    30: tuple(sorted((*KEYWORDS, *DIGITS, *OTHERS))),
    35: tuple(sorted((*KEYWORDS, *DIGITS, *OTHERS, *OTHERS_OF_V2))),
}
"""The label sets of Speech Commands by their number: 12, 20 and 35 in the order of the released
BiFSMN code, 30 the words of V1."""


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes the layers of a BiFSMNv2, and whether they are binary.

    `widths` are the thinnable depths that the network is trained for: width w runs every 2^w-th
    block, ending with the last. Raises ValueError for values that make no network.
    """

    front: int = 16
    hidden: int = 256
    memory: int = 128
    blocks: int = 8
    taps_left: int = 2
    taps_right: int = 2
    mels: int = 32
    frames: int = 32
    widths: tuple[int, ...] = (0, 1, 2)
    labels: tuple[str, ...] = LABELS_12
    binary: bool = True
    activation: Activation = "dual"
    """Of a binary layer's input: two bits with a computed scale, two bits with a scale that is
    learned for each layer, or one bit."""
    one_bit: tuple[str, ...] = ()
    """Binary layers whose input is one bit whatever `activation` is: their names, as in
    `blocks.7.expand`, with the wildcards of `fnmatch`."""
    binarizer: Binarizer = "learned"
    """Whether thresholds and alphas are learned, or stay 0 and 1, which leaves the sign of x."""
    numbers: Numbers = "channel"
    """What has a threshold, a first shift, a weight scale and the factor of a norm of its own: each
    channel, as in the paper, or each binary layer. Then θ2, which a norm takes out again, is 0."""
    settled: bool = False
    """Whether the norms of binary layers are factors and shifts that no batch changes any more."""

    def __post_init__(self) -> None:
        """Check the numbers, so that a network is never built from a damaged file."""
        sizes = (self.front, self.hidden, self.memory, self.blocks, self.mels, self.frames)
        if min(sizes) < 1 or min(self.taps_left, self.taps_right) < 0:
            raise ValueError(f"sizes must be positive, got {self}")
        if self.mels % 4 or self.frames % 4:
            raise ValueError(f"mels and frames must be divisible by 4, got {self}")
        if not self.widths or len(set(self.widths)) != len(self.widths):
            raise ValueError(f"widths must be a non-empty list of different numbers, got {self}")
        if any(width < 0 or 2**width > self.blocks for width in self.widths):
            raise ValueError(f"width w needs 2^w blocks, got {self}")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be a non-empty list of different words, got {self}")
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {get_args(Activation)}, got {self}")
        if self.binarizer not in get_args(Binarizer):
            raise ValueError(f"binarizer must be one of {get_args(Binarizer)}, got {self}")
        if self.numbers not in get_args(Numbers):
            raise ValueError(f"numbers must be one of {get_args(Numbers)}, got {self}")

        for pattern in self.one_bit:
            if not any(fnmatchcase(name, pattern) for name in self.binary_layers):
                raise ValueError(f"one_bit names no binary layer with {pattern!r}, got {self}")

    @property
    def binary_layers(self) -> tuple[str, ...]:
        """Names of the layers that are binary in a student of all blocks, in order."""
        kinds = ("memory", "expand", "project")
        inside = [f"blocks.{index}.{kind}" for index in range(self.blocks) for kind in kinds]
        return ("front.conv2", "linear", *inside)

    def of(self, layer: str) -> "NetworkConfig":
        """Return the configuration that a layer is made from: its own `activation` at its place."""
        if any(fnmatchcase(layer, pattern) for pattern in self.one_bit):
            return replace(self, activation="single")
        return self

    @property
    def steps(self) -> int:
        """Frames that reach the blocks: the two front convolutions halve them twice."""
        return self.frames // 4

    def blocks_of(self, width: int) -> tuple[int, ...]:
        """Indices of the blocks that `width` runs, in order."""
        stride = 2**width
        return tuple(range(stride - 1, self.blocks, stride))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "NetworkConfig":
        """Build from what `to_json` gave.

        Raises KeyError, TypeError or ValueError for anything else.
        """
        values = {"one_bit": ()} | values  # which older checkpoints do not have
        for name in ("widths", "labels", "one_bit"):
            values[name] = tuple(values[name])
        return cls(**values)
