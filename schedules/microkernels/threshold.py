"""Threshold and pack: exact AArch64 assembly for one shape.

A step takes 32 channels of up to four rows, which share the loads of thresholds, and packs them
(see packing). x is compared in place, sixteen channels of a row at once.
"""

from collections import deque
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    add_constant,
    load_four,
    offset,
)
from bicompile.schedules.microkernels.packing import (
    CHANNELS,
    compared,
    function,
    in_steps,
    kept_bits,
    merged,
    packed,
)

ROWS = 4
"""Rows of a tile at most."""

REGISTERS = """\
v0-v3    bits of each of 4 rows, a nibble for four channels; v8 bit c of every nibble in lane c
v16-v23  thresholds: 16 channels, and 16 to come
v4-v7, v24-v31  x: 16 channels of a row, in turn
x0 rows, x1 thresholds, x2 bits; x6-x9 rows to come, x10 thresholds to come
x11, x12 from the second 16 channels to the first, and on to the next step's second
x13 from a row of bits to the next, x14 from a tile's last to the first of the next step
x16 tiles left, x17 steps left"""

_BITS, _KEPT = ("v0", "v1", "v2", "v3"), "v8"
_QUADS = [tuple(f"v{first + i}" for i in range(4)) for first in (24, 28, 4)]
_THRESHOLDS = [tuple(f"v{first + i}" for i in range(4)) for first in (16, 20)]
_HALF = CHANNELS // 2
_BYTES = 4
_VECTORS = CHANNELS // 4


@dataclass(frozen=True)
class Packer:
    """What a kernel computes: (rows, channels), (channels,) → (rows, channels / 8) bits.

    Attributes:
        rows: of x.
        channels: a multiple of 32.
        greater: whether a bit is set by ≥; else by ≤.
        dtype: of x and thresholds, float32 or int32.
    """

    rows: int
    channels: int
    greater: bool
    dtype: str

    @property
    def name(self) -> str:
        """A name of its own."""
        direction = "ge" if self.greater else "le"
        return f"threshold_{self.rows}x{self.channels}_{self.dtype}_{direction}"


def assembly(shape: Packer) -> str:
    """The kernel as a local function (x, thresholds, bits)."""
    tiles, last = divmod(shape.rows, ROWS)
    lines = ["str d8, [sp, #-16]!", *kept_bits(_KEPT, _BITS[:3])]
    lines += [f"mov x11, #{-_BYTES * _HALF}", f"mov x12, #{_BYTES * (_HALF + CHANNELS)}"]
    lines += [f"mov x13, #{shape.channels // 8}"]
    if tiles:
        lines += _tiles(shape, ROWS, tiles)
    if last:
        lines += _tiles(shape, last, 1)
    return function(shape.name, REGISTERS, [*lines, "ldr d8, [sp], #16", "ret"])


def _tiles(shape: Packer, rows: int, tiles: int) -> list[str]:
    """A loop over tiles of `rows` rows, and in it one over steps of channels."""
    loop, row_bytes = f".L{shape.name}_{rows}", shape.channels // 8
    lines = [f"mov x14, #{CHANNELS // 8 - (rows - 1) * row_bytes}"]
    lines += [f"mov x16, #{tiles}", f"{loop}:"] if tiles > 1 else []
    for row in range(rows):
        lines += offset(f"x{6 + row}", "x0", _BYTES * (row * shape.channels + _HALF))
    lines += [f"add x10, x1, #{_BYTES * _HALF}"]
    steps = shape.channels // CHANNELS
    unrolled = 2 if steps % 2 == 0 else 1
    lines += in_steps(f"{loop}_steps", _step(shape, rows) * unrolled, steps // unrolled)
    if tiles > 1 or shape.rows > tiles * rows:
        lines += [step.text for step in add_constant("x0", rows * _BYTES * shape.channels)]
        lines += [step.text for step in add_constant("x2", (rows - 1) * row_bytes)]
    return lines + (["subs x16, x16, #1", f"b.ne {loop}"] if tiles > 1 else [])


def _step(shape: Packer, rows: int) -> list[Instruction]:
    """32 channels of every row, the second half first: what is merged first lies highest."""
    program: list[Instruction] = []
    turn = 0
    for half, thresholds in ((1, _THRESHOLDS[0]), (0, _THRESHOLDS[1])):
        by = "x11" if half else "x12"
        program.append(load_four(thresholds, "x10", by))
        for row in range(rows):
            values = _QUADS[turn % len(_QUADS)]
            turn += 1
            program.append(load_four(values, f"x{6 + row}", by))
            for lane in reversed(range(4)):
                to = _VECTORS - 1 - (4 * half + lane)
                into = values[lane] if to else _BITS[row]
                operands = (values[lane], thresholds[lane])
                program.append(compared(into, *operands, greater=shape.greater, dtype=shape.dtype))
                if to:
                    program.append(merged(_BITS[row], into, to))
    free = deque(_QUADS[turn % len(_QUADS)])
    return program + packed(_BITS[:rows], _KEPT, free, "x2", by="x13", last_by="x14")
