"""Dual-scale binarization in one walk over x: exact AArch64 assembly for one shape.

A step takes 32 channels of four rows, which share the loads of thresholds. x is compared with the
first threshold. Where the second one is the shift, the comparison then chooses between shift + 1
and shift − 1, both of them moved so that x compares with the choice as the rest x − b₁ does with
the shift (see second_signs): no rest is computed, and |x − choice| is added to the row's sum. Else
it chooses b₁, and the rest is compared with the second threshold and its distance to the shift
added. Thresholds and shifts that are one number for all channels stay in registers.

Both comparisons leave a vector of four lanes; eight of those are merged into one by SRI, a nibble
each, the last first. Of nibble n in lane c then one bit is kept, bit c, so that the lanes of a row
share no bit: three ADDP add those of four rows, which makes 32 bits a row, in the order of the
channels.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    add_constant,
    floating,
    integer,
    load_pair_at,
    offset,
    store_lanes,
)
from bicompile.schedules.microkernels.list_scheduler import schedule
from bicompile.schedules.microkernels.packing import (
    CHANNELS,
    added,
    compared,
    function,
    in_steps,
    kept_bits,
    merged,
    packed,
)

ROWS = 4
"""What a step takes, with 32 channels of each."""

REGISTERS = """\
v0 1, v1 −1, v2 bit c of every nibble in lane c
v3-v6    bits of b₁ of each of 4 rows, a nibble for four channels; v7-v10 the same of b₂
v11-v14  sums of each row
v15-v31  values
one number for all channels: v31 threshold; v0 shift + 1 and v1 shift − 1, or v30 shift and v29
second threshold
x0 rows, x1 thresholds, x2 shifts, x3 second thresholds; x6-x9 rows to come; x10-x12 as x1-x3 to
come; x13-x14 planes, x15 from a row of bits to the next, x4 from a tile's last to the first of the
next step; x5 scales; x16 tiles left, x17 steps left"""

_ONE, _MINUS, _KEPT = "v0", "v1", "v2"
_BITS, _BITS2, _SUMS = ("v3", "v4", "v5", "v6"), ("v7", "v8", "v9", "v10"), range(11, 15)
_VALUES = [f"v{n}" for n in range(15, 32)]
_THRESHOLD, _SHIFT, _THRESHOLD2 = "v31", "v30", "v29"
_VECTORS = CHANNELS // 4
_STEP_BYTES = 4 * CHANNELS


@dataclass(frozen=True)
class Binarizer:
    """What a kernel computes: (rows, channels) float32 → (2, rows, channels / 8) bits, and means.

    Attributes:
        rows: of x.
        channels: a multiple of 32.
        greater: for either plane, whether a bit is set by ≥; else by ≤.
        same: whether the second thresholds are the shifts.
        per_row: whether there is a mean for every row, else one of all.
        uniform: whether thresholds and shifts are one number each, for all channels.
    """

    rows: int
    channels: int
    greater: tuple[bool, bool]
    same: bool
    per_row: bool
    uniform: bool = False

    @property
    def name(self) -> str:
        """A name of its own."""
        directions = "".join("ge" if greater else "le" for greater in self.greater)
        kind = ("row" if self.per_row else "all") + ("_same" if self.same else "")
        kind += "_uniform" if self.uniform else ""
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
        *(_load_uniform(shape) if shape.uniform else []),
        *kept_bits(_KEPT, _BITS[:3]),
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
    return function(name, REGISTERS, lines)


def _tiles(shape: Binarizer, rows: int, tiles: int) -> list[str]:
    """A loop over tiles of `rows` rows, and in it one over steps of channels."""
    loop, steps = f".L{shape.name}_{rows}_tiles", shape.channels // CHANNELS
    lines = [f"mov x16, #{tiles}", f"{loop}:"] if tiles > 1 else []
    for row in range(rows):
        lines += offset(f"x{6 + row}", "x0", row * 4 * shape.channels)
    lines += [step.text for step in add_constant("x0", rows * 4 * shape.channels)]
    lines += [f"mov x4, #{CHANNELS // 8 - (rows - 1) * shape.row_bytes}"]
    if not shape.uniform:
        lines += ["mov x10, x1", "mov x11, x2"] + ([] if shape.same else ["mov x12, x3"])
    if shape.per_row:
        lines += [f"movi v{n}.4s, #0" for n in _SUMS[:rows]]
    lines += in_steps(f"{loop}_steps", _step(shape, rows), steps)
    for pointer in ("x13", "x14"):
        lines += [step.text for step in add_constant(pointer, (rows - 1) * shape.row_bytes)]
    if shape.per_row:
        lines += _lines(_scheduled(_means(shape, rows)))
    return lines + (["subs x16, x16, #1", f"b.ne {loop}"] if tiles > 1 else [])


def _step(shape: Binarizer, rows: int) -> list[Instruction]:
    """32 channels of every row, the last four first."""
    program: list[Instruction] = []
    uniform = _uniform(shape)
    free = deque(value for value in _VALUES if value not in uniform)

    def loaded(pointer: str, pair: int) -> list[str]:
        first, second = free.popleft(), free.popleft()
        after = _STEP_BYTES if pair == 0 else 0
        program.append(load_pair_at(first, second, pointer, 32 * pair, after))
        return [first, second]

    for pair in reversed(range(_VECTORS // 2)):
        if shape.uniform:
            thresholds, shifts, others = ([register] * 2 for register in uniform)
        else:
            thresholds, shifts = loaded("x10", pair), loaded("x11", pair)
            others = _choices(program, shifts, free) if shape.same else loaded("x12", pair)
        for row in range(rows):
            values = loaded(f"x{6 + row}", pair)
            for half in (1, 0):
                operands = thresholds[half], shifts[half], others[half]
                _four(program, shape, row, 2 * pair + half, values[half], operands, free)
            free.extend(values)
        if not shape.uniform:
            free.extend([*thresholds, *shifts, *others])
    for plane, pointer in ((_BITS, "x13"), (_BITS2, "x14")):
        program += packed(plane[:rows], _KEPT, free, pointer, by="x15", last_by="x4")
    return program


def _uniform(shape: Binarizer) -> tuple[str, ...]:
    """What holds the threshold, the shift and the second threshold of all channels, if any does.

    Where the second threshold is the shift: the threshold, shift − 1 and shift + 1.
    """
    if not shape.uniform:
        return ()
    return (_THRESHOLD, _MINUS, _ONE) if shape.same else (_THRESHOLD, _SHIFT, _THRESHOLD2)


def _load_uniform(shape: Binarizer) -> list[str]:
    lines = [f"ld1r {{{_THRESHOLD}.4s}}, [x1]", f"ld1r {{{_SHIFT}.4s}}, [x2]"]
    if shape.same:
        return lines + [f"fadd {side}.4s, {_SHIFT}.4s, {side}.4s" for side in (_ONE, _MINUS)]
    return [*lines, f"ld1r {{{_THRESHOLD2}.4s}}, [x3]"]


def _choices(program: list[Instruction], shifts: list[str], free: deque[str]) -> list[str]:
    """What shift + 1 is in; shift − 1 takes the place of the shift."""
    above = [free.popleft() for _ in shifts]
    for shift, other in zip(shifts, above, strict=True):
        program.append(floating("fadd {}.4s, {}.4s, {}.4s", other, shift, _ONE))
        program.append(floating("fadd {}.4s, {}.4s, {}.4s", shift, shift, _MINUS))
    return above


def _four(
    program: list[Instruction],
    shape: Binarizer,
    row: int,
    index: int,
    x: str,
    operands: tuple[str, str, str],
    free: deque[str],
) -> None:
    """Four channels of a row: merge their bits as nibble `index`, add the distance to its row."""
    threshold, shift, other = operands
    to = _VECTORS - 1 - index
    choice = free.popleft()
    if to == 0:
        program.append(compared(_BITS[row], x, threshold, greater=shape.greater[0]))
    program.append(compared(choice, x, threshold, greater=shape.greater[0]))
    if to > 0:
        program.append(merged(_BITS[row], choice, to))
    above, below = (other, shift) if shape.same else (_ONE, _MINUS)
    program.append(accumulating("bsl {}.16b, {}.16b, {}.16b", choice, above, below))
    if not shape.same:
        program.append(floating("fsub {}.4s, {}.4s, {}.4s", x, x, choice))
    threshold2, centre = (choice, choice) if shape.same else (other, shift)
    bit = free.popleft() if to > 0 else _BITS2[row]
    program.append(compared(bit, x, threshold2, greater=shape.greater[1]))
    if to > 0:
        program.append(merged(_BITS2[row], bit, to))
        free.append(bit)
    program.append(floating("fabd {}.4s, {}.4s, {}.4s", x, x, centre))
    free.append(choice)
    total = f"v{_SUMS[row]}"
    program.append(floating("fadd {}.4s, {}.4s, {}.4s", total, total, x))


def _means(shape: Binarizer, rows: int) -> list[Instruction]:
    """Divide every row's sum, or the sum of all, and store it."""
    program: list[Instruction] = []
    text = "faddp {}.4s, {}.4s, {}.4s"
    total = added(program, tuple(f"v{n}" for n in _SUMS[:rows]), text, floating)
    count = shape.channels
    if not shape.per_row:
        program.append(floating(text, total, total, total))
        program.append(floating(text, total, total, total))
        count *= shape.rows
    divisor = _VALUES[0]
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
