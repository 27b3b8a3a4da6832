"""Popcount GEMM, what its kernels share: rows, tiles, blocks of outputs, chunks, and results.

A tile is R rows times a block of outputs. A kernel (count_tree, interleaved) says how a chunk of
a row is counted; here are the loops around it, and what becomes of the sums that it ends with.

Float results K − 2p are exact and need no conversion: UADDW adds p to the bits of the float 2^24,
which makes 2^24 + 2p (an ulp is 2 there), and one FSUB from 2^24 + K is left; for odd K from
2^24 + K − 1, and then 1 is added. (ZIP with the upper half would do, but is slow on Cortex-A72.)
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from bicompile.schedules.microkernels import signs
from bicompile.schedules.microkernels.epilogue import REGISTERS as EPILOGUE_REGISTERS
from bicompile.schedules.microkernels.epilogue import finish
from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    add_constant,
    floating,
    offset,
    store_lanes,
    store_pair,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import (
    Stages,
    in_one_stage,
    in_two_stages,
    schedule,
)
from bicompile.schedules.microkernels.packing import function
from bicompile.schedules.microkernels.shape import MOST_BYTES, Shape
from bicompile.schedules.microkernels.window import step

ROWS = 2
"""Rows of a tile at most: they share every load of weights."""

_TWO_24 = 0x4B80_0000
"""2^24 as the bits of a float32. With n added to the bits it is 2^24 + 2n."""

EXPONENT, BIAS, ONE = "v14", "v15", "v31"
"""Constants of float32 results; ONE where K is odd only."""


class Tile(ABC):
    """Writes the program of one tile, or of a part of it, in the order of its data.

    Attributes:
        REGISTERS: what a kernel's registers hold.
        program: what is written.
        at: how far the pointers to rows have moved.
    """

    REGISTERS: ClassVar[str]

    def __init__(self, shape: Shape, rows: int, outputs: int, at: int = 0) -> None:
        """`outputs` are those of the block."""
        self.program: list[Instruction] = []
        self.at = at
        self._shape = shape
        self._rows = range(rows)
        self._outputs = outputs
        self._free = deque(self._values())

    @abstractmethod
    def _values(self) -> Sequence[str]:
        """Registers that values may take."""

    @staticmethod
    @abstractmethod
    def chunks(shape: Shape) -> tuple[int, ...]:
        """Bytes of every chunk of a row. From the second to the last but one all are equal."""

    @abstractmethod
    def begin(self) -> None:
        """Write what serves all blocks."""

    @abstractmethod
    def chunk(self, index: int, *, first: bool) -> None:
        """Count one chunk; the first one of a row sets the sums, others add to them."""

    @abstractmethod
    def results(self) -> None:
        """Convert the sums and store every row's results."""

    def _widen(self, value: str, sums: Callable[[int], str], *, first: bool) -> None:
        """Set both halves' sums of 16 bits to 16 lanes of 8 bits, or add those to them."""
        for half, suffix, lanes in ((0, "", "8b"), (1, "2", "16b")):
            if first:
                text = f"ushll{suffix} {{}}.8h, {{}}.{lanes}, #0"
                self.program.append(vector(text, sums(half), value))
            else:
                text = f"uaddw{suffix} {{0}}.8h, {{0}}.8h, {{1}}.{lanes}"
                self.program.append(accumulating(text, sums(half), value))
        self._free.append(value)

    def _finish(self, outputs: int, sums: Callable[[int, int], str]) -> None:
        """Convert sums and store the first `outputs` of every row's 16 results.

        `sums(row, half)` is the register of eight sums of 16 bits.
        """
        if self._shape.signs is not None:
            signs.finish(self.program, self._shape.signs, self._rows, outputs, self._free, sums)
            return
        if self._shape.epilogue is not None:
            for half in range(-(-outputs // 8)):
                quads = min(outputs - 8 * half, 8) // 4

                def dot(row: int, quad: int, bias: str | None, half: int = half) -> str:
                    return self._result(sums(row, half), str(quad + 1), bias or BIAS)

                finish(self.program, self._shape.epilogue, self._rows, quads, self._free, dot)
            return
        for r in self._rows:
            for half in range(-(-outputs // 8)):
                first, second = (self._result(sums(r, half), end) for end in ("1", "2"))
                left = outputs - 8 * half
                if left >= 8:
                    self.program.append(store_pair(first, second, f"x{6 + r}"))
                else:
                    for quarter, value in enumerate((first, second)):
                        lanes = min(left - 4 * quarter, 4)
                        if lanes > 0:
                            self.program += store_lanes(value, f"x{6 + r}", lanes)
                self._free += [first, second]

    def _result(self, summed: str, end: str, bias: str = BIAS) -> str:
        """Four results of the first ("1") or second half of eight sums."""
        value = self._free.popleft()
        suffix, lanes = ("", "4h") if end == "1" else ("2", "8h")
        if self._shape.bits is None and self._shape.epilogue is None:
            self.program.append(vector(f"ushll{suffix} {{}}.4s, {{}}.{lanes}, #0", value, summed))
            return value
        text = f"uaddw{suffix} {{}}.4s, {{}}.4s, {{}}.{lanes}"
        self.program.append(vector(text, value, EXPONENT, summed))
        self.program.append(floating("fsub {}.4s, {}.4s, {}.4s", value, bias, value))
        if self._shape.bits and self._shape.bits % 2:
            self.program.append(floating("fadd {}.4s, {}.4s, {}.4s", value, value, ONE))
        return value


def assembly(name: str, shape: Shape, kind: type[Tile]) -> str:
    """The kernel as a local function `name` (rows, weights as lay_out gives them, results).

    Raises ValueError where a row is longer than MOST_BYTES.
    """
    if shape.row_bytes > MOST_BYTES:
        raise ValueError(f"rows have {shape.row_bytes} bytes, accepted are at most {MOST_BYTES}")
    seen = shape.seen
    tiles, last = divmod(seen.positions, shape.tile_rows)
    lines = [f"\tstp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(8, 16, 2)]
    lines[0] = "\tstp d8, d9, [sp, #-64]!"
    if shape.epilogue is not None:
        lines += shape.epilogue.without_residual(name, shape.rows * shape.result_bytes)
    lines += _constants(shape)
    after = shape.epilogue or shape.signs
    lines += ["\tmov x6, x2"] if after is None else after.arguments()
    lines += _constant("x10", step(seen.runs))
    lines += [*_constant("x17", seen.lines), f".L{name}_lines:"] if seen.lines > 1 else []
    if tiles:
        lines += _rows(name, shape, kind, shape.chosen.rows, tiles)
    if last:
        lines += _rows(name, shape, kind, last, 1)
    if seen.lines > 1:
        lines += _moved("x0", seen.down - seen.positions * seen.across)
        lines += ["\tsubs x17, x17, #1", f"\tb.ne .L{name}_lines"]
    lines += [f"\tldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["\tldp d8, d9, [sp], #64", "\tret"]
    registers = kind.REGISTERS + ("" if shape.epilogue is None else f"\n{EPILOGUE_REGISTERS}")
    registers += "" if shape.signs is None else f"\n{signs.REGISTERS}"
    return function(name, registers, [line.lstrip() for line in lines])


def _constant(register: str, value: int) -> list[str]:
    """Nothing where it is 0."""
    high = [f"\tmovk {register}, #{value >> 16}, lsl #16"] if value >> 16 else []
    return [f"\tmov {register}, #{value & 0xFFFF}", *high] if value else []


def _constants(shape: Shape) -> list[str]:
    lines = [f"\tmov w11, #{_TWO_24:#x}", f"\tdup {EXPONENT}.4s, w11"]
    if shape.bits is None:
        return [] if shape.epilogue is None else lines
    bias = _TWO_24 + shape.bits // 2
    lines += [*_constant("w11", bias), f"\tdup {BIAS}.4s, w11"]
    return lines + ([f"\tfmov {ONE}.4s, #1.0"] if shape.bits % 2 else [])


def _rows(name: str, shape: Shape, kind: type[Tile], rows: int, tiles: int) -> list[str]:
    """A loop over `tiles` groups of `rows` rows, every one against all weights."""
    loop = f".L{name}_{rows}_tiles"
    results = rows if shape.epilogue is None else rows // shape.epilogue.planes
    lines = [f"\tmov x8, #{tiles}", f"{loop}:"] if tiles > 1 else []
    lines += ["\tmov x4, x0", "\tmov x3, x1"]
    if rows > 1:
        apart = shape.seen.across if results > 1 else shape.seen.plane
        lines += _offset("x5", "x0", apart)
    if results > 1:
        lines += _offset("x7", "x6", shape.result_bytes)
    if shape.epilogue is not None:
        lines += shape.epilogue.begin(results, shape.result_bytes)
    if shape.signs is not None:
        lines += shape.signs.begin(results)
    lines += _moved("x0", results * shape.seen.across)
    is_straight = shape.chosen.is_straight(shape.row_bytes) or len(kind.chunks(shape)) == 1
    lines += (_straight if is_straight else _looped)(name, shape, kind, rows)
    lines += _moved("x6", (results - 1) * shape.result_bytes)
    if shape.epilogue is not None and shape.epilogue.residual:
        lines += _moved("x15", (results - 1) * shape.result_bytes)
    if tiles > 1:
        lines += ["\tsubs x8, x8, #1", f"\tb.ne {loop}"]
    return lines


def _straight(name: str, shape: Shape, kind: type[Tile], rows: int) -> list[str]:
    """All blocks of outputs; a block is one program, and two overlap."""
    width, prepared = shape.chosen.block, shape.chosen.prepared
    setup = kind(shape, rows, width)
    setup.begin()

    def block(outputs: int) -> list[Instruction]:
        tile = kind(shape, rows, outputs)
        for index in range(len(kind.chunks(shape))):
            tile.chunk(index, first=index == 0)
        tile.program += _back(rows, tile.at)
        tile.results()
        return prepared(tile.program)

    before = prepared(setup.program)
    blocks = -(-shape.outputs // width)
    last = block(shape.outputs - width * (blocks - 1))
    if blocks == 1:
        return _text([*before, *last])
    staged = in_two_stages if shape.chosen.overlap else in_one_stage
    stages, end = staged(block(width), "x9"), staged(last, "x9")
    label = f".L{name}_{rows}_blocks"
    if stages.start == end.start:
        return _turns(stages, label, "x9", blocks, before) + _lines(end.finish)
    # The last block begins otherwise, so nothing of it can overlap.
    lines = _turns(stages, label, "x9", blocks - 1, before)
    return lines + _lines(stages.finish) + _text(last)


def _looped(name: str, shape: Shape, kind: type[Tile], rows: int) -> list[str]:
    """All blocks; inside a loop over equal chunks, of which two overlap."""
    prepared = shape.chosen.prepared
    first, size, *others = kind.chunks(shape)
    endings = [other for other in others if other != size]
    turns = 1 + len(others) - len(endings)
    staged = in_two_stages if shape.chosen.overlap else in_one_stage

    def block(outputs: int, label: str) -> list[str]:
        begin, middle = kind(shape, rows, outputs), kind(shape, rows, outputs, first)
        begin.chunk(0, first=True)
        middle.chunk(1, first=False)
        stages = staged(prepared(middle.program), "x10")
        end = kind(shape, rows, outputs, shape.row_bytes - sum(endings))
        for index in range(len(endings)):
            end.chunk(1 + turns + index, first=False)
        end.program += _back(rows, shape.row_bytes)
        end.results()
        lines = _turns(stages, f"{label}_chunks", "x10", turns, prepared(begin.program))
        return lines + _text([*stages.finish, *prepared(end.program)])

    full, last = divmod(shape.outputs, shape.chosen.block)
    label = f".L{name}_{rows}_blocks"
    lines = [f"\tmov x9, #{full}", f"{label}:"] if full else []
    if full:
        lines += block(shape.chosen.block, label)
        lines += ["\tsubs x9, x9, #1", f"\tb.ne {label}"]
    return lines + (block(last, f"{label}_last") if last else [])


def _back(rows: int, distance: int) -> list[Instruction]:
    return [step for r in range(rows) for step in add_constant(f"x{4 + r}", -distance)]


def _turns(
    stages: Stages, label: str, counter: str, times: int, before: Sequence[Instruction]
) -> list[str]:
    """So many iterations but for the last one's finish, and before them another program."""
    lines = _text([*before, *stages.begun(times)])
    if times == 1:
        return lines
    turns = [line if line.endswith(":") else f"\t{line}" for line in stages.turns(label)]
    return [f"\tmov {counter}, #{times}", *lines, *turns]


def _text(program: Sequence[Instruction]) -> list[str]:
    return _lines([issued.instruction for issued in schedule(program)])


def _lines(program: Sequence[Instruction]) -> list[str]:
    return [f"\t{instruction.text}" for instruction in program]


def _moved(register: str, distance: int) -> list[str]:
    return _lines(add_constant(register, distance))


def _offset(register: str, base: str, distance: int) -> list[str]:
    return [f"\t{line}" for line in offset(register, base, distance)]
