"""Threshold and pack: exact AArch64 assembly for all shapes of a kind.

How many rows and channels there are comes in registers (see dual_scale). A step takes 32 channels
of up to four rows, which share the loads of thresholds, and packs them (see packing). x is compared
in place, sixteen channels of a row at once.
"""

from collections import deque
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    load_four,
)
from bicompile.schedules.microkernels.packing import (
    CHANNELS,
    ROWS,
    apart,
    compared,
    function,
    in_steps,
    kept_bits,
    merged,
    packed,
    tile_names,
    tiles_of,
)

REGISTERS = """\
v0-v3    bits of each of 4 rows, a nibble for four channels; v8 bit c of every nibble in lane c
v16-v23  thresholds: 16 channels, and 16 to come; v16 that of all channels
v4-v7, v24-v31  x: 16 channels of a row, in turn
x0 rows, x1 thresholds, x2 bits; x6-x9 rows to come, x10 thresholds to come
x11, x12 from the second 16 channels to the first, and on to the next step's second
x13 from a row of bits to the next, x14 from a tile's last to the first of the next step, x15 from a
tile's first to its last
x16 rows of whole tiles left, x17 turns over steps left"""

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
        uniform: whether there is one threshold, (1,), for all channels.
    """

    rows: int
    channels: int
    greater: bool
    dtype: str
    uniform: bool = False

    @property
    def name(self) -> str:
        """That of the function, the same for any number of whole tiles and of turns over steps."""
        kind = f"{self.dtype}_{'ge' if self.greater else 'le'}{'_uniform' * self.uniform}"
        return f"threshold_{kind}_{tile_names(self.rows)}by{CHANNELS * self.unrolled}"

    @property
    def unrolled(self) -> int:
        """Steps of a turn."""
        return 1 if self.channels // CHANNELS % 2 else 2


def assembly(shape: Packer) -> str:
    """The kernel as a local function, for all shapes of its name.

    Of (x, thresholds, bits) and two int32, the rows and the channels.
    """
    label = f".L{shape.name}"
    lines = ["str d8, [sp, #-16]!", *kept_bits(_KEPT)]
    lines += [f"mov x11, #{-_BYTES * _HALF}", f"mov x12, #{_BYTES * (_HALF + CHANNELS)}"]
    lines += ["lsr w13, w4, #3"]
    if shape.uniform:
        lines += [f"ld1r {{{_THRESHOLDS[0][0]}.4s}}, [x1]"]
    whole, last = tiles_of(shape.rows)
    if whole:
        lines += [*_apart(ROWS), f"sub w16, w3, #{last}", f"{label}_{ROWS}:"]
        lines += [*_tile(shape, ROWS, f"{label}_{ROWS}"), "add x2, x2, x15"]
        lines += [f"subs x16, x16, #{ROWS}", f"b.ne {label}_{ROWS}"]
    if last:
        lines += [*_apart(last), *_tile(shape, last, f"{label}_{last}")]
    return function(shape.name, REGISTERS, [*lines, "ldr d8, [sp], #16", "ret"])


def _apart(rows: int) -> list[str]:
    return apart(rows, "x13", first_to_last="x15", to_next="x14")


def _tile(shape: Packer, rows: int, label: str) -> list[str]:
    """Every step of a tile."""
    lines = [f"add x6, x0, #{_BYTES * _HALF}"]
    if not shape.uniform:
        lines += [f"add x10, x1, #{_BYTES * _HALF}"]
    lines += [f"add x{6 + row}, x{5 + row}, x13, lsl #5" for row in range(1, rows)]
    lines += ["add x0, x0, x13, lsl #7", f"lsr x17, x13, #{1 + shape.unrolled}"]
    return lines + in_steps(f"{label}_steps", _step(shape, rows) * shape.unrolled)


def _step(shape: Packer, rows: int) -> list[Instruction]:
    """32 channels of every row, the second half first: what is merged first lies highest."""
    program: list[Instruction] = []
    turn = 0
    for half, thresholds in ((1, _THRESHOLDS[0]), (0, _THRESHOLDS[1])):
        by = "x11" if half else "x12"
        if shape.uniform:
            thresholds = (_THRESHOLDS[0][0],) * 4
        else:
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
