"""Dual-scale binarization in one walk over x: exact AArch64 assembly for one shape.

A step takes 32 channels of four rows, which share the loads of thresholds. b₁ is chosen between
1 and −1 by a comparison; the rest x − b₁ is compared again, and its distance to the shift added to
the row's sum. Both comparisons leave a vector of four lanes; eight of those are merged into one by
SRI, a nibble each, the last first. Of nibble n in lane c then one bit is kept, bit c, so that the
lanes of a row share no bit: three ADDP add those of four rows, which makes 32 bits a row, in the
order of the channels. Of b₁ itself, not of its comparison, the sign bits are merged: the comparison
is overwritten by the choice, and no copy is needed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    add_constant,
    floating,
    integer,
    load_pair_at,
    store_lane,
    store_lanes,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import in_two_stages, schedule

ROWS = 4
CHANNELS = 32
"""What a step takes: rows of this many channels."""

REGISTERS = """\
v0 1, v1 −1, v2 −3 −2 −1 0, v3 bit c of every nibble in lane c
v4-v7    b₁ of each of 4 rows, a nibble for four channels; v8-v11 the same of b₂
v12-v15  sums of each row
v16-v31  values
x0 rows, x1 thresholds, x2 shifts, x3 second thresholds; x6-x9 rows to come; x10-x12 as x1-x3 to
come; x13-x14 planes, x15 bytes of a row of bits; x5 scales; x16 tiles left, x17 steps left"""

_ONE, _MINUS, _SHIFTS, _KEPT = "v0", "v1", "v2", "v3"
_BITS, _BITS2, _SUMS = ("v4", "v5", "v6", "v7"), ("v8", "v9", "v10", "v11"), range(12, 16)
_VALUES = [f"v{n}" for n in range(16, 32)]
_VECTORS = CHANNELS // 4
_STEP_BYTES = 4 * CHANNELS

Kind = Callable[..., Instruction]


@dataclass(frozen=True)
class Binarizer:
    """What a kernel computes: (rows, channels) float32 → (2, rows, channels / 8) bits, and means.

    Attributes:
        rows: of x.
        channels: a multiple of 32.
        greater: for either plane, whether a bit is set by ≥; else by ≤.
        same: whether the second thresholds are the shifts.
        per_row: whether there is a mean for every row, else one of all.
    """

    rows: int
    channels: int
    greater: tuple[bool, bool]
    same: bool
    per_row: bool

    @property
    def name(self) -> str:
        """A name of its own."""
        directions = "".join("ge" if greater else "le" for greater in self.greater)
        kind = ("row" if self.per_row else "all") + ("_same" if self.same else "")
        return f"dual_scale_{self.rows}x{self.channels}_{directions}_{kind}"

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of bits."""
        return self.channels // 8


def assembly(shape: Binarizer) -> str:
    """The kernel as a local function (x, thresholds, shifts, second thresholds, planes, scales)."""
    name = shape.name
    tiles, last = divmod(shape.rows, ROWS)
    lines = [f"stp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(8, 16, 2)]
    lines[0] = "stp d8, d9, [sp, #-64]!"
    lines += [
        "fmov v0.4s, #1.0",
        "fmov v1.4s, #-1.0",
        "mov x10, #0x100000000",
        "mov x11, #2",
        "movk x11, #3, lsl #32",
        "mov v2.d[0], x10",
        "mov v2.d[1], x11",
        "mov w12, #0x1111",
        "movk w12, #0x1111, lsl #16",
        "dup v3.4s, w12",
        "ushl v3.4s, v3.4s, v2.4s",
        "movi v16.4s, #3",
        "sub v2.4s, v2.4s, v16.4s",
        "mov x13, x4",
        "mov x14, x4",
        *(step.text for step in add_constant("x14", shape.rows * shape.row_bytes)),
        f"mov x15, #{shape.row_bytes}",
    ]
    if not shape.per_row:
        lines += [f"movi v{n}.4s, #0" for n in _SUMS]
    if tiles:
        lines += _tiles(shape, ROWS, tiles)
    if last:
        lines += _tiles(shape, last, 1)
    if not shape.per_row:
        lines += _lines(_scheduled(_means(shape, ROWS)))
    lines += [f"ldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["ldp d8, d9, [sp], #64", "ret"]
    about = "\n".join(f"// {line}" for line in REGISTERS.splitlines())
    body = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body}\n"
        f"\t.size {name}, . - {name}\n"
    )


def _tiles(shape: Binarizer, rows: int, tiles: int) -> list[str]:
    """A loop over tiles of `rows` rows, and in it one over steps of channels."""
    loop, steps = f".L{shape.name}_{rows}_tiles", shape.channels // CHANNELS
    lines = [f"mov x16, #{tiles}", f"{loop}:"] if tiles > 1 else []
    for row in range(rows):
        pointer = f"x{6 + row}"
        lines += [f"mov {pointer}, x0"]
        lines += [step.text for step in add_constant(pointer, row * 4 * shape.channels)]
    lines += [step.text for step in add_constant("x0", rows * 4 * shape.channels)]
    lines += ["mov x10, x1", "mov x11, x2"] + ([] if shape.same else ["mov x12, x3"])
    if shape.per_row:
        lines += [f"movi v{n}.4s, #0" for n in _SUMS[:rows]]
    stages = in_two_stages(_step(shape, rows), last="sri")
    lines += _lines(stages.start)
    if steps > 1:
        lines += [f"mov x17, #{steps - 1}", f"{loop}_steps:", "subs x17, x17, #1"]
        lines += [*_lines(stages.loop), f"b.ne {loop}_steps"]
    lines += _lines(stages.finish)
    for pointer in ("x13", "x14"):
        lines += [step.text for step in add_constant(pointer, (rows - 1) * shape.row_bytes)]
    if shape.per_row:
        lines += _lines(_scheduled(_means(shape, rows)))
    return lines + (["subs x16, x16, #1", f"b.ne {loop}"] if tiles > 1 else [])


def _step(shape: Binarizer, rows: int) -> list[Instruction]:
    """32 channels of every row, the last four first."""
    program: list[Instruction] = []
    free = deque(_VALUES)

    def loaded(pointer: str, pair: int) -> list[str]:
        first, second = free.popleft(), free.popleft()
        after = _STEP_BYTES if pair == 0 else 0
        program.append(load_pair_at(first, second, pointer, 32 * pair, after))
        return [first, second]

    for pair in reversed(range(_VECTORS // 2)):
        thresholds, shifts = loaded("x10", pair), loaded("x11", pair)
        thresholds2 = shifts if shape.same else loaded("x12", pair)
        for row in range(rows):
            values = loaded(f"x{6 + row}", pair)
            for half in (1, 0):
                operands = thresholds[half], shifts[half], thresholds2[half]
                _four(program, shape, row, 2 * pair + half, values[half], operands, free)
            free.extend(values)
        free.extend(dict.fromkeys([*thresholds, *shifts, *thresholds2]))
    for plane, pointer in ((_BITS, "x13"), (_BITS2, "x14")):
        _pack(program, plane[:rows], pointer, free, inverted=plane is _BITS, shape=shape)
    return program


def _four(
    program: list[Instruction],
    shape: Binarizer,
    row: int,
    index: int,
    x: str,
    operands: tuple[str, str, str],
    free: deque[str],
) -> None:
    """Four channels of a row: merge their bits as nibble `index`, add |rest − shift|."""
    threshold, shift, threshold2 = operands
    is_last = index == _VECTORS - 1
    merge = f"sri {{}}.4s, {{}}.4s, #{4 * (_VECTORS - 1 - index)}"
    sign = _BITS[row] if is_last else free.popleft()
    program.append(_compared(sign, x, threshold, greater=shape.greater[0]))
    program.append(accumulating("bsl {}.16b, {}.16b, {}.16b", sign, _ONE, _MINUS))
    if not is_last:
        program.append(accumulating(merge, _BITS[row], sign))
    program.append(floating("fsub {}.4s, {}.4s, {}.4s", x, x, sign))
    if not is_last:
        free.append(sign)
    bit = _BITS2[row] if is_last else free.popleft()
    program.append(_compared(bit, x, threshold2, greater=shape.greater[1]))
    if not is_last:
        program.append(accumulating(merge, _BITS2[row], bit))
        free.append(bit)
    program.append(floating("fabd {}.4s, {}.4s, {}.4s", x, x, shift))
    total = f"v{_SUMS[row]}"
    program.append(floating("fadd {}.4s, {}.4s, {}.4s", total, total, x))


def _compared(into: str, x: str, threshold: str, *, greater: bool) -> Instruction:
    sides = (x, threshold) if greater else (threshold, x)
    return floating("fcmge {}.4s, {}.4s, {}.4s", into, *sides)


def _pack(
    program: list[Instruction],
    plane: tuple[str, ...],
    pointer: str,
    free: deque[str],
    *,
    inverted: bool,
    shape: Binarizer,
) -> None:
    """Keep a bit of every nibble, add the lanes of every row, and store 32 bits for each."""
    kept = tuple(free.popleft() for _ in plane)
    for bits, value in zip(plane, kept, strict=True):
        if inverted:  # sign bits are the highest of a nibble, and set for −1
            program.append(vector("ushl {}.4s, {}.4s, {}.4s", value, bits, _SHIFTS))
            program.append(vector("bic {}.16b, {}.16b, {}.16b", value, _KEPT, value))
        else:
            program.append(vector("and {}.16b, {}.16b, {}.16b", value, bits, _KEPT))
    total = _added(program, kept, "addp {}.4s, {}.4s, {}.4s", vector)
    for row in range(len(plane)):
        program.append(store_lane(total, row, pointer, "x15"))
    program += add_constant(pointer, 4 - len(plane) * shape.row_bytes)


def _added(program: list[Instruction], rows: tuple[str, ...], text: str, kind: Kind) -> str:
    """Add the four lanes of up to four registers: lane r of the result is that of row r."""
    first, second = rows[0], rows[min(1, len(rows) - 1)]
    third, fourth = rows[min(2, len(rows) - 1)], rows[-1]
    if len(rows) > 2:
        program.append(kind(text, third, third, fourth))
    program.append(kind(text, first, first, second))
    program.append(kind(text, first, first, third if len(rows) > 2 else first))
    return first


def _means(shape: Binarizer, rows: int) -> list[Instruction]:
    """Divide every row's sum, or the sum of all, and store it."""
    program: list[Instruction] = []
    text = "faddp {}.4s, {}.4s, {}.4s"
    total = _added(program, tuple(f"v{n}" for n in _SUMS[:rows]), text, floating)
    count = shape.channels
    if not shape.per_row:
        program.append(floating(text, total, total, total))
        program.append(floating(text, total, total, total))
        count *= shape.rows
    divisor = "v16"
    bits = int(np.float32(count).view(np.uint32))
    program += [
        integer(f"mov w17, #{bits & 0xFFFF}", "x17"),
        integer(f"movk w17, #{bits >> 16}, lsl #16", "x17", "x17"),
        Instruction(f"dup {divisor}.4s, w17", ("x17",), ((divisor, 4),), "vector"),
        floating("fdiv {}.4s, {}.4s, {}.4s", total, total, divisor),
    ]
    return program + store_lanes(total, "x5", rows if shape.per_row else 1)


def _scheduled(program: list[Instruction]) -> list[Instruction]:
    return [issued.instruction for issued in schedule(program)]


def _lines(program: list[Instruction]) -> list[str]:
    return [instruction.text for instruction in program]
