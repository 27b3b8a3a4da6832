"""Popcount GEMM with a lane for every output: exact AArch64 assembly for one shape.

A tile is R rows times 16 or 32 outputs. A vector of weights is one byte of 16 outputs, and LD1R
repeats the row's byte for all of them, so CNT(a ^ w) has 8 bits of each output in its own lane: ADD
sums them, and no result needs a horizontal sum. A row costs its own bytes. Rows may lie in an image
(see window); each byte is loaded from where it is.

CNT is at most 8, so lanes of 8 bits hold a chunk of at most 31 bytes. The first count of a chunk is
its sum, and UADDL makes sums of 16 bits of the first two: rows of 2 to 62 bytes cost exactly three
vector instructions a byte and 16 outputs, what a tree costs. UADDW adds further chunks.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.instructions import (
    add_constant,
    load,
    load_pair,
    load_repeated,
    vector,
)
from bicompile.schedules.microkernels.shape import Shape
from bicompile.schedules.microkernels.tiles import ONE, ROWS, Tile
from bicompile.schedules.microkernels.weights import BLOCK

REGISTERS = """\
v0-v13, v24-v31  repeated bytes of rows, weights, counts in lanes of 8 bits, results, in turn
v14      for float32 results: 2^24 in every lane
v15      for float32 results: 2^24 + K, or K − 1 where K is odd; then v31 is 1
v16-v19  sums of 16 bits: 16 outputs of each of 2 rows
v20-v23  those of 16 more; in a tile of 16 as v24-v31
x0 rows, x1 weights, x2 results; x3 weights to come; x4-x5 row r to come; x6-x7 results of row r
x8 tiles left, x9 blocks left, x10 chunks left; x11 constants; x17 lines of an image left"""

_CHUNK = 31
"""Bytes whose counts lanes of 8 bits hold: 31 · 8 = 248."""

_VALUES = [f"v{n}" for n in range(12)]
_FINISHED = ("v12", "v13")
"""Registers that an epilogue has."""


class InterleavedTile(Tile):
    """A tile whose lanes are outputs."""

    REGISTERS = REGISTERS

    def __init__(self, shape: Shape, rows: int, outputs: int, at: int = 0) -> None:
        """See Tile."""
        self._blocks = range(-(-outputs // BLOCK))
        super().__init__(shape, rows, outputs, at)
        self._places = [begin + byte for begin, length in shape.seen.runs for byte in range(length)]
        self._weights: list[str] = []
        self._held: list[list[str]] = []

    def _values(self) -> list[str]:
        values = [*_VALUES, *(_FINISHED if self._shape.epilogue is None else ())]
        values += [f"v{n}" for n in range(16 + 2 * ROWS * len(self._blocks), 32)]
        if self._shape.bits is not None and self._shape.bits % 2:
            values.remove(ONE)
        return values

    @staticmethod
    def chunks(shape: Shape) -> tuple[int, ...]:
        """Two if they suffice, the second short; else of 31 bytes, what is left over first."""
        if 1 < shape.row_bytes <= 2 * _CHUNK:
            first = min(shape.row_bytes - 1, _CHUNK)
            return first, shape.row_bytes - first
        whole, head = divmod(shape.row_bytes, _CHUNK)
        return ((head,) if head else ()) + (_CHUNK,) * whole

    def begin(self) -> None:
        """Nothing: there is no room for repeated bytes that stay."""

    def chunk(self, index: int, *, first: bool) -> None:
        """Count one chunk in lanes of 8 bits and add them to the sums."""
        sizes = self.chunks(self._shape)
        begin = sum(sizes[:index])
        self._left = len(self._blocks) * sizes[index]
        totals: list[list[str]] = []
        for place in self._places[begin : begin + sizes[index]]:
            counted = self._count(place)
            if not totals:
                totals = counted
                continue
            for into, values in zip(totals, counted, strict=True):
                for total, value in zip(into, values, strict=True):
                    self.program.append(vector("add {}.16b, {}.16b, {}.16b", total, total, value))
                    self._free.append(value)
        is_straight = self._shape.chosen.is_straight(self._shape.row_bytes)
        if first and is_straight and len(sizes) > 1:
            self._held = totals
            return
        for block, values in enumerate(totals):
            for r, value in enumerate(values):
                sums = partial(_sum, block, r)
                if self._held:
                    self._widen_both(value, self._held[block][r], sums)
                else:
                    self._widen(value, sums, first=first)
        self._held = []

    def _count(self, place: int) -> list[list[str]]:
        """CNT(a ^ w) of one byte: for every 16 outputs a register for each row."""
        repeated = []
        for r in self._rows:
            self.program += add_constant(f"x{4 + r}", place - self.at)
            repeated.append(self._free.popleft())
            self.program.append(load_repeated(repeated[r], f"x{4 + r}", 1))
        self.at = place + 1
        counted = []
        for _ in self._blocks:
            weights = self._next_weights()
            values = [self._free.popleft() for _ in self._rows]
            for value, byte in zip(values, repeated, strict=True):
                self.program += [
                    vector("eor {}.16b, {}.16b, {}.16b", value, byte, weights),
                    vector("cnt {}.16b, {}.16b", value, value),
                ]
            self._free.append(weights)
            counted.append(values)
        self._free.extend(repeated)
        return counted

    def _next_weights(self) -> str:
        if not self._weights:
            self._weights = [self._free.popleft() for _ in range(min(self._left, 2))]
            first, *second = self._weights
            step = load_pair(first, second[0], "x3") if second else load(first, "x3")
            self.program.append(step)
        self._left -= 1
        return self._weights.pop(0)

    def _widen_both(self, value: str, held: str, sums: Callable[[int], str]) -> None:
        """Set both halves' sums of 16 bits to what two vectors of lanes of 8 bits have together."""
        for half, suffix, lanes in ((0, "", "8b"), (1, "2", "16b")):
            text = f"uaddl{suffix} {{}}.8h, {{}}.{lanes}, {{}}.{lanes}"
            self.program.append(vector(text, sums(half), value, held))
        self._free += [value, held]

    def results(self) -> None:
        """Those of every 16 outputs."""
        for block in self._blocks:
            outputs = min(self._outputs - BLOCK * block, BLOCK)
            self._finish(outputs, lambda row, half, block=block: _sum(block, row, half))


def _sum(block: int, row: int, half: int) -> str:
    return f"v{16 + 2 * ROWS * block + 2 * row + half}"


def lay_out(weights: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Weights as tiles read them: (N, ≥ row_bytes) → 16·ceil(N / 16)·row_bytes uint8.

    For every block of outputs its bytes of the first column, of the second, ...; outputs after the
    last are clear. The last block is 16 outputs where no more are left.
    """
    padded = np.zeros((-(-len(weights) // BLOCK) * BLOCK, shape.row_bytes), np.uint8)
    padded[: len(weights)] = weights[:, : shape.row_bytes]
    width = shape.chosen.block
    blocks = [padded[first : first + width].T.ravel() for first in range(0, len(padded), width)]
    return np.concatenate(blocks)
