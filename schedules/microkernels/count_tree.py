"""Popcount GEMM as a tree of pairwise adds: exact AArch64 assembly for one shape.

A tile is R rows times 16 outputs. CNT(a ^ w) of 16 bytes leaves 16 lanes of one output; an ADDP of
two such vectors leaves 8 lanes of two outputs, and so on: after three levels a vector holds 8
outputs, two lanes each, and UADDLP or UADALP makes them 16-bit sums. A row's rest of 8, 4, 2 or 1
bytes enters the tree where vectors have as many lanes an output (see weights), so nothing is
padded. The tree costs what one ADD a vector would, and no result needs a horizontal sum of its
own: 16 outputs of 16·V bytes cost 48·V instructions and the conversion. Rows may be gathered
from an image (see window).

Lanes of 8 bits hold one chunk of a row: after three levels 64 for each vector, at most three, and
32 for a rest of 8 bytes, so at most 224. Sums of 16 bits hold 8191 bytes.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial

from bicompile.schedules.microkernels.choices import Tree
from bicompile.schedules.microkernels.instructions import (
    accumulating,
    load,
    load_pair,
    vector,
)
from bicompile.schedules.microkernels.shape import Shape
from bicompile.schedules.microkernels.tiles import ONE, ROWS, Tile
from bicompile.schedules.microkernels.weights import (
    PIECES_PER_CHUNK,
    Chunk,
    cut,
    leaves,
)
from bicompile.schedules.microkernels.window import chunks_of_parts, gather, step

REGISTERS = """\
v0-v7    activations: 4 pieces of a chunk, of each of 2 rows
v8-v13   weights: 3 pairs in turn
v14      for float32 results: 2^24 in every lane
v15      for float32 results: 2^24 + K, or K − 1 where K is odd; then v31 is 1
v16-v19  sums of 16 bits: 16 outputs of each of 2 rows
v20-v31  values: counts, sums of the tree, results; what of v0-v7 no piece needs, too
x0 rows, x1 weights, x2 results; x3 weights to come; x4-x5 row r to come; x6-x7 results of row r
x8 tiles left, x9 blocks left, x10 chunks left, or the step to the next run; x11 constants
x17 lines of an image left"""

_WEIGHTS = [("v8", "v9"), ("v10", "v11"), ("v12", "v13")]
_VALUES = [f"v{n}" for n in range(20, 32)]


class TreeTile(Tile):
    """A tile whose counts are added pairwise."""

    REGISTERS = REGISTERS

    def __init__(self, shape: Shape, rows: int, outputs: int, at: int = 0) -> None:
        """See Tile."""
        self._chunks = cut(shape.row_bytes)
        super().__init__(shape, rows, outputs, at)
        assert isinstance(shape.chosen, Tree)
        self._parts = chunks_of_parts(shape.seen.runs)
        pairs = _WEIGHTS if shape.epilogue is None else _WEIGHTS[:2]
        self._pairs_of_weights = pairs[: shape.chosen.weight_pairs]
        self._weights: deque[str] = deque()
        self._pairs = 0

    def _values(self) -> list[str]:
        bits = self._shape.bits
        values = [v for v in _VALUES if v != ONE or bits is None or bits % 2 == 0]
        pieces = max(map(len, self._chunks))
        idle = [_activation(r, i) for r in range(ROWS) for i in range(pieces, PIECES_PER_CHUNK)]
        return values + idle

    @staticmethod
    def chunks(shape: Shape) -> tuple[int, ...]:
        """Those of weights.cut."""
        return tuple(sum(piece.size for piece in chunk) for chunk in cut(shape.row_bytes))

    def begin(self) -> None:
        """Load the activations of rows of one chunk, which stay."""
        if len(self._chunks) == 1:
            self._load(0)

    def chunk(self, index: int, *, first: bool) -> None:
        """Load one chunk, where rows have more than one, and count it."""
        if len(self._chunks) > 1:
            self._load(index)
        self._count_chunk(self._chunks[index], first=first)

    def _load(self, index: int) -> None:
        """One chunk of every row, whose pointers are where the chunk before ended."""
        at = self.at
        for r in self._rows:
            registers = [_activation(r, piece) for piece in range(PIECES_PER_CHUNK)]
            ahead = "x10", step(self._shape.seen.runs)
            program, self.at = gather(self._parts[index], registers, f"x{4 + r}", at, ahead)
            self.program += program

    def _count_chunk(self, chunk: Chunk, *, first: bool) -> None:
        self._left = sum(1 for _ in leaves(chunk))
        for half in range(2):
            values = self._below(chunk, 3, half)
            for r, value in enumerate(values):
                into = _sum(r, half)
                if first:
                    self.program.append(vector("uaddlp {}.8h, {}.16b", into, value))
                else:
                    self.program.append(accumulating("uadalp {}.8h, {}.16b", into, value))
                self._free.append(value)
        has_sums = not first or any(piece.level < 4 for piece in chunk)
        for index, piece in enumerate(chunk):
            if piece.level == 4:
                self._last_byte(index, has_sums)

    def _last_byte(self, index: int, has_sums: bool) -> None:
        for r, value in enumerate(self._count(index)):
            self._widen(value, partial(_sum, r), first=not has_sums)

    def _below(self, chunk: Chunk, level: int, group: int) -> list[str]:
        """A node of the tree, in a register for each row; none where nothing is below it."""
        total: list[str] = []
        if level:
            total = self._below(chunk, level - 1, 2 * group)
            right = self._below(chunk, level - 1, 2 * group + 1)
            self._add("addp {}.16b, {}.16b, {}.16b", total, right)
        for index, piece in enumerate(chunk):
            if piece.level == level:
                counted = self._count(index)
                if total:
                    self._add("add {}.16b, {}.16b, {}.16b", total, counted)
                else:
                    total = counted
        return total

    def _add(self, template: str, total: Sequence[str], other: Sequence[str]) -> None:
        for left, right in zip(total, other, strict=True):
            self.program.append(vector(template, left, left, right))
            self._free.append(right)

    def _count(self, index: int) -> list[str]:
        """CNT(a ^ w) of the next weights and piece `index` of every row."""
        weights = self._next_weights()
        counted = []
        for r in self._rows:
            value = self._free.popleft()
            self.program += [
                vector("eor {}.16b, {}.16b, {}.16b", value, _activation(r, index), weights),
                vector("cnt {}.16b, {}.16b", value, value),
            ]
            counted.append(value)
        return counted

    def _next_weights(self) -> str:
        if not self._weights:
            pair = self._pairs_of_weights[self._pairs % len(self._pairs_of_weights)]
            self._pairs += 1
            if self._left > 1:
                self._weights.extend(pair)
                self.program.append(load_pair(*pair, "x3"))
            else:
                self._weights.append(pair[0])
                self.program.append(load(pair[0], "x3"))
        self._left -= 1
        return self._weights.popleft()

    def results(self) -> None:
        """Those of 16 outputs, or of fewer."""
        self._finish(self._outputs, _sum)


def _activation(row: int, piece: int) -> str:
    return f"v{PIECES_PER_CHUNK * row + piece}"


def _sum(row: int, half: int) -> str:
    return f"v{16 + 2 * row + half}"
