"""The dynamic instruction trace: which instructions one run on the emulator executed, in order.

A trace is kept as basic blocks and the order in which they ran, so that two million instructions
take a few hundred blocks and one number for every block that ran.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable
from bicompile.cost.decode import Instruction, decode
from bicompile.devices.emulator import EmulatedProgram, Emulator
from bicompile.devices.image import Image


@dataclass(frozen=True)
class Block:
    """Instructions that always run together, in this order.

    Attributes:
        address: of the first one.
        symbol: the function they belong to: the last symbol at or before them.
        instructions: what they do.
    """

    address: int
    symbol: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """One run.

    Attributes:
        blocks: every block that ran, once, by address.
        order: the blocks in the order they ran, as indices into `blocks`.
    """

    blocks: tuple[Block, ...]
    order: NDArray[np.intp]

    @cached_property
    def times(self) -> list[int]:
        """How often each block ran."""
        times: list[int] = np.bincount(self.order, minlength=len(self.blocks)).tolist()
        return times

    @property
    def instructions(self) -> Counter[str]:
        """Instructions executed, by symbol; exact."""
        return self.by_symbol(self.of_blocks(lambda block: len(block.instructions)))

    @property
    def vector_instructions(self) -> Counter[str]:
        """Those of them that the ASIMD and floating-point unit executes, by symbol; exact."""
        return self.by_symbol(self.of_blocks(vector_instructions))

    def of_blocks(self, count: Callable[[Block], int]) -> NDArray[np.int64]:
        """What every block of `order` counts."""
        counts = np.array([count(block) for block in self.blocks], np.int64)
        return counts[self.order]

    def by_symbol(self, spent: NDArray[np.int64]) -> Counter[str]:
        """The sum of numbers, one for every block of `order`, by symbol."""
        sums: Counter[str] = Counter()
        each = np.bincount(self.order, weights=spent, minlength=len(self.blocks))
        for block, total in zip(self.blocks, each.tolist(), strict=True):
            sums[block.symbol] += int(total)
        return sums


def vector_instructions(block: Block) -> int:
    """Instructions of a block that the ASIMD and floating-point unit executes."""
    return sum(instruction.is_vector for instruction in block.instructions)


def collect(executable: Executable, sample: NDArray[np.float32]) -> Trace:
    """The trace of one run for one input: float32 of shape executable.input.shape.

    Raises UserError for another shape or dtype and for a program that is not arm64, DeviceFault
    when the program breaks the entry's contract.
    """
    with Emulator().load(executable) as loaded:
        return trace_of(loaded, sample)


def trace_of(loaded: EmulatedProgram, sample: NDArray[np.float32]) -> Trace:
    """The trace of one run of a program that is loaded already."""
    return _compress(loaded.image, loaded.trace(sample))


def _compress(image: Image, ran: NDArray[np.uint32]) -> Trace:
    """Name each block once. Where a symbol starts inside a block, it is cut there."""
    keys = ran[:, 0].astype(np.uint64) << np.uint64(32) | ran[:, 1]
    unique, which = np.unique(keys, return_inverse=True)
    starts = np.array([(at - image.code.address) // 4 for at, _ in image.symbols])
    blocks: list[Block] = []
    pieces: list[range] = []
    for key in unique.tolist():
        first, end = key >> 32, (key >> 32) + (key & 0xFFFF_FFFF)
        cuts = starts[(starts > first) & (starts < end)].tolist()
        edges = [first, *cuts, end]
        pieces.append(range(len(blocks), len(blocks) + len(edges) - 1))
        for start, stop in pairwise(edges):
            blocks.append(_block(image, starts, start, stop))
    return Trace(tuple(blocks), _spread(which, pieces))


def _block(image: Image, starts: NDArray[np.int64], first: int, stop: int) -> Block:
    address = image.code.address + 4 * first
    _, symbol = image.symbols[int(np.searchsorted(starts, first, side="right")) - 1]
    return Block(address, symbol, decode(image.code.data[4 * first : 4 * stop], address))


def _spread(which: NDArray[np.intp], pieces: Sequence[range]) -> NDArray[np.intp]:
    """Replace every index by the pieces that it was cut into."""
    firsts = np.array([piece.start for piece in pieces], np.intp)[which]
    sizes = np.array([len(piece) for piece in pieces], np.intp)[which]
    offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    spread: NDArray[np.intp] = np.repeat(firsts, sizes) + offsets
    return spread
