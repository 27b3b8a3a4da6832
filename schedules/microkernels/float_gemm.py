"""Float products, dense or of a window: exact AArch64 assembly for one shape.

A tile is up to eight positions times two vectors of outputs (four positions times four vectors
where there are no more positions). A position's operands are loaded four at a time, every
multiply-add picks one by its lane, and a vector of weights serves all positions of the tile. An
operand is loaded as soon as the one before it in its register is used up, so that the multiply-adds
of one unit follow each other without a gap; small tiles have several sums for every result, since a
sum takes its next product five cycles after the last.

What a position sees is `segments` runs of `length` floats that lie `segment_stride` apart: one run
for a dense layer, one for every row of a convolution's kernel. So a convolution reads the framed
image as it is, and no patches are copied.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.instructions import (
    FLOAT_LATENCY,
    Instruction,
    accumulating,
    add_constant,
    floating,
    integer,
    load,
    load_at,
    load_half,
    load_lanes,
    load_pair,
    load_pair_at,
    load_repeated_at,
    load_single,
    store_lanes,
    store_pair,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import schedule

Bend = Literal["", "relu", "prelu"]
"""What follows the bias: nothing, max(y, 0), or max(y, slope·y)."""

REGISTERS = """\
v0-v7    operands of up to 8 positions; v8-v15 weights: 4 pairs in turn; v16-v31 sums
v8 slope, v0-v7 and v9-v15 values, after the last product of a tile
x0 what the tile sees, x1 weights of the block, x2 bias of the block, x3 slope, x4 residual and
x5 results of the tile; x6 weights to come; x7 steps left; x8 blocks left; x9-x16 operands of
position r to come, then x9 results and x10 residual to come; x17 tiles left; x19 segments left;
x20 lines left"""

_LANES = 4
_MOST_POSITIONS = 8
_LEAST_SUMS = 8
"""Fewer would wait for each other: see FLOAT_LATENCY."""
_STEP = 8
"""Floats of a run in one turn of the loop: after them, pairs of weights lie as before."""
_PAIRS = [("v8", "v9"), ("v10", "v11"), ("v12", "v13"), ("v14", "v15")]
_SLOPE = "v8"
_FREE = [*(f"v{n}" for n in range(8)), *(f"v{n}" for n in range(9, 16))]
_FURTHEST = 1 << 24


@dataclass(frozen=True)
class FloatGemm:
    """What a kernel computes: y[r, p, n] = Σ over s, l of x[at(r, p, s) + l] · w[s, l, n], and on.

    at(r, p, s) = r·line_stride + p·position_stride + s·segment_stride, in floats. Then come
    + bias[n], what `bend` says, and + residual[r, p, n].

    Attributes:
        lines: R; of a dense layer 1.
        positions: P, of a line.
        outputs: N.
        segments: S.
        length: L.
        position_stride: floats from what a position sees to what the next one sees.
        line_stride: the same for lines.
        segment_stride: the same for segments.
        bend: see Bend.
        residual: whether something like the results is added.
    """

    lines: int
    positions: int
    outputs: int
    segments: int
    length: int
    position_stride: int
    line_stride: int = 0
    segment_stride: int = 0
    bend: Bend = ""
    residual: bool = False

    @property
    def name(self) -> str:
        """A name of its own."""
        sizes = (self.lines, self.positions, self.outputs, self.segments, self.length)
        strides = (self.position_stride, self.line_stride, self.segment_stride)
        ends = [self.bend] * bool(self.bend) + ["add"] * self.residual
        return "_".join(["float", *map(str, (*sizes, *strides)), *ends])

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """How a line is cut: (tiles, positions of each), as equal as can be."""
        count = -(-self.positions // _MOST_POSITIONS)
        size, larger = divmod(self.positions, count)
        cut = [(larger, size + 1), (count - larger, size)]
        return [(tiles, positions) for tiles, positions in cut if tiles]

    @property
    def block(self) -> int:
        """Vectors of outputs of a tile."""
        widest = 2 if self.tiles[0][1] > _LANES else 4
        return min(widest, -(-self.outputs // _LANES))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """How outputs are cut: (blocks, outputs of each)."""
        whole, rest = divmod(self.outputs, _LANES * self.block)
        cut = [(whole, _LANES * self.block), (int(rest > 0), rest)]
        return [(blocks, outputs) for blocks, outputs in cut if blocks]

    @property
    def multiply_adds(self) -> int:
        """FMLA instructions that results need at least, four products in each."""
        products = self.lines * self.positions * self.segments * self.length
        return products * -(-self.outputs // _LANES)

    def fits(self) -> bool:
        """Whether there is a kernel: every distance is within reach of an addition."""
        seen = self.lines * self.line_stride + self.segments * self.segment_stride
        seen += self.positions * self.position_stride + self.length
        results = self.lines * self.positions * self.outputs
        return 4 * max(seen, results) < _FURTHEST

    def lay_out(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """(S, L, N) as the kernel reads them: block after block, outputs padded to vectors."""
        rows = weights.reshape(self.segments * self.length, self.outputs)
        padded = pad(rows)
        width = _LANES * self.block
        blocks = [padded[:, at : at + width] for at in range(0, padded.shape[1], width)]
        return np.concatenate([block.reshape(-1) for block in blocks])


def pad(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last axis padded with zeros to whole vectors."""
    missing = -values.shape[-1] % _LANES
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def assembly(shape: FloatGemm) -> str:
    """The kernel as a local function (x, weights, bias, slope, residual, results).

    Weights lie as `lay_out` gives them, bias as `pad` does.
    """
    name = shape.name
    lines = ["stp x19, x20, [sp, #-80]!"]
    lines += [f"stp d{n}, d{n + 1}, [sp, #{8 * n - 48}]" for n in range(8, 16, 2)]
    for number, (blocks, outputs) in enumerate(shape.blocks):
        body = _block(shape, outputs, f".L{name}_{number}")
        lines += _loop(f".L{name}_{number}_blocks", "x8", blocks, body)
    lines += [f"ldp d{n}, d{n + 1}, [sp, #{8 * n - 48}]" for n in range(8, 16, 2)]
    lines += ["ldp x19, x20, [sp], #80", "ret"]
    about = "\n".join(f"// {line}" for line in REGISTERS.splitlines())
    body_text = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body_text}\n"
        f"\t.size {name}, . - {name}\n"
    )


def _block(shape: FloatGemm, outputs: int, label: str) -> list[str]:
    """All positions against one block of outputs; pointers then are at the next block."""
    line: list[str] = []
    for number, (tiles, positions) in enumerate(shape.tiles):
        tile = _Tile(shape, positions, outputs, f"{label}_{number}")
        line += _loop(f"{label}_{number}_tiles", "x17", tiles, tile.lines())
    back = -4 * shape.positions * shape.position_stride
    if shape.lines > 1:
        line += _moved("x0", 4 * shape.line_stride + back)
        back = -4 * shape.lines * shape.line_stride
    lines = [*_loop(f"{label}_lines", "x20", shape.lines, line), *_moved("x0", back)]
    lines += ["mov x1, x6", *_moved("x2", 4 * outputs)]
    back = 4 * (outputs - shape.lines * shape.positions * shape.outputs)
    for pointer in _pointers(shape):
        lines += _moved(pointer, back)
    return lines


def _pointers(shape: FloatGemm) -> list[str]:
    """What moves as the results do."""
    return ["x5", "x4"] if shape.residual else ["x5"]


class _Tile:
    """Some positions times a block of outputs."""

    def __init__(self, shape: FloatGemm, positions: int, outputs: int, label: str) -> None:
        self._shape = shape
        self._positions = range(positions)
        self._outputs = outputs
        self._vectors = -(-outputs // _LANES)
        self._label = label
        self._ahead = int(positions <= _LANES)  # then operands of two pieces fit v0-v7
        self._sets = 1
        cells, steps = positions * self._vectors, shape.segments * shape.length
        while cells * self._sets < _LEAST_SUMS and 2 * self._sets <= min(steps, _STEP):
            self._sets *= 2

    def lines(self) -> list[str]:
        """The tile; x0, x4 and x5 then are at the next one."""
        shape = self._shape
        turns = max(shape.length // _STEP - 1, 0)
        first = self._first_loads()
        inner = _text(self._steps(_STEP, shape.length))
        loop = _loop(f"{self._label}_steps", "x7", turns, inner, counted_first=True)
        last = shape.length - _STEP * turns
        rest = list(self._steps(last, last))
        if shape.segments == 1:
            return _text([*self._begin(), *first]) + loop + _text([*rest, *self._end()])
        distance = 4 * (shape.segment_stride - shape.length)
        for position in self._positions:
            rest += add_constant(_pointer(position), distance)
        segment = _text(first) + loop + _text(rest)
        segments = _loop(f"{self._label}_segments", "x19", shape.segments, segment)
        return _text(self._begin()) + segments + _text(self._end())

    def _begin(self) -> list[Instruction]:
        """Point to the operands, and begin the sums with the bias."""
        program = [integer("mov x6, x1", "x6", "x1"), integer("mov x9, x0", "x9", "x0")]
        for position in self._positions[1:]:
            distance = 4 * self._shape.position_stride
            program += _added(_pointer(position), _pointer(position - 1), distance)
        program += _added("x0", _pointer(self._positions[-1]), 4 * self._shape.position_stride)
        for position in self._positions:
            for vector_at in range(0, self._vectors, 2):
                first = self._sum(0, position, vector_at)
                if vector_at + 1 < self._vectors:
                    second = self._sum(0, position, vector_at + 1)
                    program.append(load_pair_at(first, second, "x2", 16 * vector_at))
                else:
                    program.append(load_at(first, "x2", 16 * vector_at))
        for cell in range(1, self._sets):
            for position in self._positions:
                for vector_at in range(self._vectors):
                    register = self._sum(cell, position, vector_at)
                    program.append(vector("movi {}.4s, #0", register))
        return program

    def _sum(self, cell: int, position: int, vector_at: int) -> str:
        index = (cell * len(self._positions) + position) * self._vectors + vector_at
        return f"v{16 + index}"

    def _first_loads(self) -> list[Instruction]:
        """What the steps of a run begin with."""
        length = self._shape.length
        program = self._operands(0, length)
        if self._ahead:
            program += self._operands(1, length - _piece(length))
        for pair in range(len(_PAIRS)):
            program += self._weights(pair, length)
        return program

    def _operands(self, piece: int, left: int) -> list[Instruction]:
        """The next operands of every position, as many as are loaded at once where `left` are."""
        make = {4: load, 2: load_half, 1: load_single, 0: None}[_piece(left)]
        registers = [self._operand(piece, position) for position in self._positions]
        return [make(register, f"x{9 + p}") for p, register in enumerate(registers) if make]

    def _operand(self, piece: int, position: int) -> str:
        return f"v{position + _LANES * (piece % 2) * self._ahead}"

    def _weights(self, pair: int, left: int) -> list[Instruction]:
        """A pair of vectors of weights, or what there is of it in `left` steps."""
        first, second = _PAIRS[pair % len(_PAIRS)]
        vectors = left * self._vectors - 2 * pair
        if vectors > 1:
            return [load_pair(first, second, "x6")]
        return [load(first, "x6")] if vectors == 1 else []

    def _steps(self, count: int, left: int) -> Iterator[Instruction]:
        """`count` products of every sum, of `left` in the run, and the loads of what comes then."""
        piece = begun = 0
        for step in range(count):
            for vector_at in range(self._vectors):
                index = step * self._vectors + vector_at
                weights = _PAIRS[index // 2 % len(_PAIRS)][index % 2]
                for position in self._positions:
                    into = self._sum(step % self._sets, position, vector_at)
                    text = f"fmla {{}}.4s, {{}}.4s, {{}}.s[{step - begun}]"
                    operands = (into, weights, self._operand(piece, position))
                    yield accumulating(text, *operands, latency=FLOAT_LATENCY)
                if index % 2:
                    yield from self._weights(index // 2 + len(_PAIRS), left)
            if step + 1 - begun == _piece(left - begun):
                piece, begun = piece + 1, step + 1
                to_come = left - begun
                if self._ahead:
                    to_come -= _piece(to_come)
                yield from self._operands(piece + self._ahead, to_come)

    def _end(self) -> list[Instruction]:
        """From sums to results."""
        program: list[Instruction] = []
        free = deque(_FREE)
        cells = self._sets
        while cells > 1:
            cells //= 2
            for cell in range(cells):
                for into, other in zip(self._sums(cell), self._sums(cell + cells), strict=True):
                    program.append(floating("fadd {}.4s, {}.4s, {}.4s", into, into, other))
        if self._shape.bend == "relu":
            program.append(vector("movi {}.4s, #0", _SLOPE))
        elif self._shape.bend == "prelu":
            program.append(load_repeated_at(_SLOPE, "x3"))
        for position in self._positions:
            for value in self._row(position):
                if self._shape.bend == "relu":
                    program.append(floating("fmax {}.4s, {}.4s, {}.4s", value, value, _SLOPE))
                elif self._shape.bend == "prelu":
                    below = free.popleft()
                    free.append(below)
                    program.append(floating("fmul {}.4s, {}.4s, {}.4s", below, value, _SLOPE))
                    program.append(floating("fmax {}.4s, {}.4s, {}.4s", value, value, below))
        for position in self._positions:
            row = self._row(position)
            if self._shape.residual:
                added = [free[i] for i in range(len(row))]
                free.rotate(-len(row))
                program += _moved_vectors(added, "x4", self._outputs, load_pair, load_lanes)
                for value, other in zip(row, added, strict=True):
                    program.append(floating("fadd {}.4s, {}.4s, {}.4s", value, value, other))
            program += _moved_vectors(row, "x5", self._outputs, store_pair, store_lanes)
            for pointer in _pointers(self._shape):
                program += add_constant(pointer, 4 * (self._shape.outputs - self._outputs))
        return program

    def _sums(self, cell: int) -> list[str]:
        return [self._sum(cell, p, v) for p in self._positions for v in range(self._vectors)]

    def _row(self, position: int) -> list[str]:
        return [self._sum(0, position, vector_at) for vector_at in range(self._vectors)]


def _piece(left: int) -> int:
    """How many operands of a position are loaded at once, where `left` are to come."""
    return next((size for size in (4, 2, 1) if size <= left), 0)


def _pointer(position: int) -> str:
    return f"x{9 + position}"


def _added(into: str, register: str, distance: int) -> list[Instruction]:
    """into = register + distance."""
    if distance < 1 << 12:
        return [integer(f"add {into}, {register}, #{distance}", into, register)]
    return [integer(f"mov {into}, {register}", into, register), *add_constant(into, distance)]


def _moved_vectors(
    vectors: Sequence[str],
    pointer: str,
    lanes: int,
    pair: Callable[[str, str, str], Instruction],
    single: Callable[[str, str, int], list[Instruction]],
) -> list[Instruction]:
    """Load or store the first `lanes` lanes of some vectors; the pointer moves past them."""
    program: list[Instruction] = []
    whole = lanes // (2 * _LANES)
    for first, second in zip(vectors[: 2 * whole : 2], vectors[1 : 2 * whole : 2], strict=True):
        program.append(pair(first, second, pointer))
    left = lanes - 2 * _LANES * whole
    for register in vectors[2 * whole :]:
        program += single(register, pointer, min(left, _LANES))
        left -= _LANES
    return program


def _loop(
    label: str, counter: str, turns: int, body: list[str], *, counted_first: bool = False
) -> list[str]:
    """The body, `turns` times; `counted_first` where nothing in it changes the flags."""
    if turns < 2:
        return body * turns
    count, again = f"subs {counter}, {counter}, #1", f"b.ne {label}"
    inside = [count, *body] if counted_first else [*body, count]
    return [f"mov {counter}, #{turns}", f"{label}:", *inside, again]


def _text(program: Iterable[Instruction]) -> list[str]:
    return [issued.instruction.text for issued in schedule(list(program))]


def _moved(register: str, distance: int) -> list[str]:
    return [step.text for step in add_constant(register, distance)]
