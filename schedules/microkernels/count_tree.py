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

Float results K − 2p are exact and need no conversion: UADDW adds p to the bits of the float 2^24,
which makes 2^24 + 2p (an ulp is 2 there), and one FSUB from 2^24 + K is left; for odd K from
2^24 + K − 1, and then 1 is added. (ZIP with the upper half would do, but is slow on Cortex-A72.)
"""

from collections import deque
from collections.abc import Sequence

from bicompile.schedules.microkernels import signs
from bicompile.schedules.microkernels.epilogue import REGISTERS as EPILOGUE_REGISTERS
from bicompile.schedules.microkernels.epilogue import finish
from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    add_constant,
    floating,
    load,
    load_pair,
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
from bicompile.schedules.microkernels.weights import (
    BLOCK,
    PIECES_PER_CHUNK,
    Chunk,
    cut,
    leaves,
)
from bicompile.schedules.microkernels.window import chunks_of_parts, gather, step

ROWS = 2
"""Rows of a tile at most: they share every load of weights."""

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

_TWO_24 = 0x4B80_0000
"""2^24 as the bits of a float32. With n added to the bits it is 2^24 + 2n."""

_WEIGHTS = [("v8", "v9"), ("v10", "v11"), ("v12", "v13")]
_EXPONENT, _BIAS, _ONE = "v14", "v15", "v31"
_VALUES = [f"v{n}" for n in range(20, 32)]


class _Tile:
    """Writes the program of one tile, or of a part of it, in the order of its data."""

    def __init__(self, shape: Shape, rows: int, at: int = 0) -> None:
        """`at` says how far the pointers to rows have moved."""
        self.program: list[Instruction] = []
        self.at = at
        self._shape = shape
        self._rows = range(rows)
        self._parts = chunks_of_parts(shape.seen.runs)
        values = [v for v in _VALUES if v != _ONE or shape.bits is None or shape.bits % 2 == 0]
        pieces = max(map(len, cut(shape.row_bytes)))
        idle = [_activation(r, i) for r in range(ROWS) for i in range(pieces, PIECES_PER_CHUNK)]
        self._free = deque(values + idle)
        pairs = _WEIGHTS if shape.epilogue is None else _WEIGHTS[:2]
        self._pairs_of_weights = pairs[: shape.tree.weight_pairs]
        self._weights: deque[str] = deque()
        self._pairs = 0

    def activations(self, index: int) -> None:
        """Load one chunk of every row, whose pointers are where the chunk before ended."""
        at = self.at
        for r in self._rows:
            registers = [_activation(r, piece) for piece in range(PIECES_PER_CHUNK)]
            ahead = "x10", step(self._shape.seen.runs)
            program, self.at = gather(self._parts[index], registers, f"x{4 + r}", at, ahead)
            self.program += program

    def chunk(self, chunk: Chunk, *, first: bool) -> None:
        """Count one chunk; the first one of a row sets the sums, others add to them."""
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
            for half, suffix, lanes in ((0, "", "8b"), (1, "2", "16b")):
                into = _sum(r, half)
                if has_sums:
                    text = f"uaddw{suffix} {{0}}.8h, {{0}}.8h, {{1}}.{lanes}"
                    self.program.append(accumulating(text, into, value))
                else:
                    text = f"ushll{suffix} {{}}.8h, {{}}.{lanes}, #0"
                    self.program.append(vector(text, into, value))
            self._free.append(value)

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

    def results(self, outputs: int) -> None:
        """Convert the sums and store the first `outputs` of every row's 16 results."""
        if self._shape.signs is not None:
            signs.finish(self.program, self._shape.signs, self._rows, outputs, self._free, _sum)
            return
        if self._shape.epilogue is not None:
            for half in range(-(-outputs // 8)):
                quads = min(outputs - 8 * half, 8) // 4

                def dot(row: int, quad: int, bias: str | None, half: int = half) -> str:
                    return self._result(_sum(row, half), str(quad + 1), bias or _BIAS)

                finish(self.program, self._shape.epilogue, self._rows, quads, self._free, dot)
            return
        for r in self._rows:
            for half in range(-(-outputs // 8)):
                first, second = (self._result(_sum(r, half), end) for end in ("1", "2"))
                left = outputs - 8 * half
                if left >= 8:
                    self.program.append(store_pair(first, second, f"x{6 + r}"))
                else:
                    for quarter, value in enumerate((first, second)):
                        lanes = min(left - 4 * quarter, 4)
                        if lanes > 0:
                            self.program += store_lanes(value, f"x{6 + r}", lanes)
                self._free += [first, second]

    def _result(self, sums: str, end: str, bias: str = _BIAS) -> str:
        """Four results of the first ("1") or second half of eight sums."""
        value = self._free.popleft()
        suffix, lanes = ("", "4h") if end == "1" else ("2", "8h")
        if self._shape.bits is None and self._shape.epilogue is None:
            self.program.append(vector(f"ushll{suffix} {{}}.4s, {{}}.{lanes}, #0", value, sums))
            return value
        text = f"uaddw{suffix} {{}}.4s, {{}}.4s, {{}}.{lanes}"
        self.program.append(vector(text, value, _EXPONENT, sums))
        self.program.append(floating("fsub {}.4s, {}.4s, {}.4s", value, bias, value))
        if self._shape.bits and self._shape.bits % 2:
            self.program.append(floating("fadd {}.4s, {}.4s, {}.4s", value, value, _ONE))
        return value


def _activation(row: int, piece: int) -> str:
    return f"v{PIECES_PER_CHUNK * row + piece}"


def _sum(row: int, half: int) -> str:
    return f"v{16 + 2 * row + half}"


def assembly(name: str, shape: Shape) -> str:
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
        lines += _rows(name, shape, shape.tree.rows, tiles)
    if last:
        lines += _rows(name, shape, last, 1)
    if seen.lines > 1:
        lines += _moved("x0", seen.down - seen.positions * seen.across)
        lines += ["\tsubs x17, x17, #1", f"\tb.ne .L{name}_lines"]
    lines += [f"\tldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["\tldp d8, d9, [sp], #64", "\tret"]
    registers = REGISTERS + ("" if shape.epilogue is None else f"\n{EPILOGUE_REGISTERS}")
    registers += "" if shape.signs is None else f"\n{signs.REGISTERS}"
    return function(name, registers, [line.lstrip() for line in lines])


def _constant(register: str, value: int) -> list[str]:
    """Nothing where it is 0."""
    high = [f"\tmovk {register}, #{value >> 16}, lsl #16"] if value >> 16 else []
    return [f"\tmov {register}, #{value & 0xFFFF}", *high] if value else []


def _constants(shape: Shape) -> list[str]:
    lines = [f"\tmov w11, #{_TWO_24:#x}", f"\tdup {_EXPONENT}.4s, w11"]
    if shape.bits is None:
        return [] if shape.epilogue is None else lines
    bias = _TWO_24 + shape.bits // 2
    lines += [*_constant("w11", bias), f"\tdup {_BIAS}.4s, w11"]
    return lines + ([f"\tfmov {_ONE}.4s, #1.0"] if shape.bits % 2 else [])


def _rows(name: str, shape: Shape, rows: int, tiles: int) -> list[str]:
    """A loop over `tiles` groups of `rows` rows, every one against all weights."""
    loop = f".L{name}_{rows}_tiles"
    results = rows if shape.epilogue is None else rows // shape.epilogue.planes
    lines = [f"\tmov x8, #{tiles}", f"{loop}:"] if tiles > 1 else []
    lines += ["\tmov x4, x0", "\tmov x3, x1"]
    if rows > 1:
        apart = shape.seen.across if results > 1 else shape.seen.plane
        lines += [f"\t{line}" for line in offset("x5", "x0", apart)]
    if results > 1:
        lines += [f"\t{line}" for line in offset("x7", "x6", shape.result_bytes)]
    if shape.epilogue is not None:
        lines += shape.epilogue.begin(results, shape.result_bytes)
    if shape.signs is not None:
        lines += shape.signs.begin(results)
    lines += _moved("x0", results * shape.seen.across)
    is_straight = shape.tree.unrolled or len(cut(shape.row_bytes)) == 1
    lines += (_straight if is_straight else _looped)(name, shape, rows)
    lines += _moved("x6", (results - 1) * shape.result_bytes)
    if shape.epilogue is not None and shape.epilogue.residual:
        lines += _moved("x15", (results - 1) * shape.result_bytes)
    if tiles > 1:
        lines += ["\tsubs x8, x8, #1", f"\tb.ne {loop}"]
    return lines


def _straight(name: str, shape: Shape, rows: int) -> list[str]:
    """All blocks of 16 outputs; a block is one program, and two overlap."""
    chunks = cut(shape.row_bytes)
    kept = len(chunks) == 1
    setup = _Tile(shape, rows)
    if kept:
        setup.activations(0)

    def block(outputs: int) -> list[Instruction]:
        tile = _Tile(shape, rows)
        for index, chunk in enumerate(chunks):
            if not kept:
                tile.activations(index)
            tile.chunk(chunk, first=index == 0)
        if not kept:
            tile.program += _back(rows, tile.at)
        tile.results(outputs)
        return shape.tree.prepared(tile.program)

    before = shape.tree.prepared(setup.program)
    blocks = -(-shape.outputs // BLOCK)
    last = block(shape.outputs - BLOCK * (blocks - 1))
    if blocks == 1:
        return _text([*before, *last])
    staged = in_two_stages if shape.tree.overlap else in_one_stage
    stages, end = staged(block(BLOCK), "x9"), staged(last, "x9")
    label = f".L{name}_{rows}_blocks"
    if stages.start == end.start:
        return _turns(stages, label, "x9", blocks, before) + _lines(end.finish)
    # The last block begins otherwise, so nothing of it can overlap.
    lines = _turns(stages, label, "x9", blocks - 1, before)
    return lines + _lines(stages.finish) + _text(last)


def _looped(name: str, shape: Shape, rows: int) -> list[str]:
    """All blocks; inside a loop over chunks of three vectors, of which two overlap."""
    first, chunk, *others = cut(shape.row_bytes)
    endings = [other for other in others if other != chunk]
    turns = 1 + len(others) - len(endings)
    begin, middle = _Tile(shape, rows), _Tile(shape, rows, _bytes(first))
    begin.activations(0)
    begin.chunk(first, first=True)
    middle.activations(1)
    middle.chunk(chunk, first=False)
    staged = in_two_stages if shape.tree.overlap else in_one_stage
    stages = staged(shape.tree.prepared(middle.program), "x10")

    def block(outputs: int, label: str) -> list[str]:
        end = _Tile(shape, rows, shape.row_bytes - sum(map(_bytes, endings)))
        for index, ending in enumerate(endings, start=1 + turns):
            end.activations(index)
            end.chunk(ending, first=False)
        end.program += _back(rows, shape.row_bytes)
        end.results(outputs)
        before = shape.tree.prepared(begin.program)
        lines = _turns(stages, f"{label}_chunks", "x10", turns, before)
        return lines + _text([*stages.finish, *shape.tree.prepared(end.program)])

    full, last = divmod(shape.outputs, BLOCK)
    label = f".L{name}_{rows}_blocks"
    lines = [f"\tmov x9, #{full}", f"{label}:"] if full else []
    if full:
        lines += block(BLOCK, label)
        lines += ["\tsubs x9, x9, #1", f"\tb.ne {label}"]
    return lines + (block(last, f"{label}_last") if last else [])


def _bytes(chunk: Chunk) -> int:
    return sum(piece.size for piece in chunk)


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
