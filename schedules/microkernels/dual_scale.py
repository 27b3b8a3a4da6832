"""Dual-scale binarization in one walk over x: exact AArch64 assembly for all shapes of a kind.

How many rows and channels there are comes in registers, so that one text serves them all; only a
last tile of fewer than four rows is text of its own.

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

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    floating,
    integer,
    load_pair_at,
    store_lanes,
)
from bicompile.schedules.microkernels.list_scheduler import schedule
from bicompile.schedules.microkernels.packing import (
    CHANNELS,
    ROWS,
    added,
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
v0 1, v1 −1, v2 bit c of every nibble in lane c
v3-v6    bits of b₁ of each of 4 rows, a nibble for four channels; v7-v10 the same of b₂
v11-v14  sums of each row
v15-v31  values
one number for all channels: v31 threshold; v0 and v1 what x is compared with after it, above and
below; or v30 shift and v29 second threshold
x0 rows; x6-x9 rows to come; x10 thresholds, x11 shifts, x12 second thresholds to come
x13-x14 planes, x15 from a row of bits to the next, x4 from a tile's last to the first of the next
step, x1 from a tile's first to its last; x5 scales; x3 channels, x2 rows that share a mean, or 0
x16 rows of tiles left, x17 steps left"""

_ONE, _MINUS, _KEPT = "v0", "v1", "v2"
_BITS, _BITS2, _SUMS = ("v3", "v4", "v5", "v6"), ("v7", "v8", "v9", "v10"), range(11, 15)
_VALUES = [f"v{n}" for n in range(15, 32)]
_THRESHOLD, _SHIFT, _THRESHOLD2 = "v31", "v30", "v29"
_CLEARED = [f"movi v{n}.4s, #0" for n in _SUMS]
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
        """That of the function, the same for any number of channels and of whole tiles of rows."""
        directions = "".join("ge" if greater else "le" for greater in self.greater)
        kind = ("_same" if self.same else "") + ("_uniform" if self.uniform else "")
        return f"dual_scale_{directions}{kind}_{tile_names(self.rows)}"

    @property
    def numbers(self) -> tuple[int, int]:
        """The arguments that are no pointers: rows, negative where they share a mean; channels."""
        return (self.rows if self.per_row else -self.rows), self.channels


def assembly(shape: Binarizer) -> str:
    """The kernel as a local function, for all shapes of its name.

    Of (x, thresholds, shifts, second thresholds, planes, scales) and two int32, see numbers. Where
    second thresholds are the shift, and it is one for all channels, the third and fourth are what x
    reaches where the rest behind 1 and −1 reaches it (see second_signs.sides).
    """
    label, (whole, last) = f".L{shape.name}", tiles_of(shape.rows)
    lines = [f"stp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(8, 16, 2)]
    lines[0] = "stp d8, d9, [sp, #-64]!"
    lines += ["fmov v0.4s, #1.0", "fmov v1.4s, #-1.0", *kept_bits(_KEPT)]
    lines += _loaded(shape) if shape.uniform else _to_come(shape)
    lines += ["mov w3, w7", "lsr w15, w7, #3"]
    lines += ["cmp w6, #0", "cneg w16, w6, lt", "csel w2, w16, wzr, lt"]
    lines += ["mov x13, x4", "madd x14, x15, x16, x4"]
    if whole:
        lines += [*_apart(ROWS), *([f"sub x16, x16, #{last}"] if last else [])]
        lines += _whole_tiles(shape, label, f"{label}_{last}" if last else "")
    if last:
        lines += _last_tile(shape, label, last)
    lines += [f"{label}_mean:", *_lines(_scheduled(_means(ROWS, of_all=True)))]
    lines += [f"{label}_done:"]
    lines += [f"ldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["ldp d8, d9, [sp], #64", "ret"]
    return function(shape.name, REGISTERS, lines)


def _whole_tiles(shape: Binarizer, label: str, last: str) -> list[str]:
    """A loop over tiles of four rows; `last` is the label of the last tile, where that is another.

    A mean of all keeps its sums from tile to tile.
    """
    tiles, counted = f"{label}_{ROWS}", f"subs x16, x16, #{ROWS}"
    lines = [f"{tiles}:", *_CLEARED, f"{tiles}_same_mean:", *_tile(shape, ROWS, tiles)]
    lines += [f"sub {pointer}, {pointer}, x15, lsl #5" for pointer in _constants(shape)]
    lines += ["add x13, x13, x1", "add x14, x14, x1", f"cbnz x2, {tiles}_no_means"]
    lines += [*_lines(_scheduled(_means(ROWS))), counted, f"b.ne {tiles}"]
    lines += [f"b {last or f'{label}_done'}", f"{tiles}_no_means:", counted]
    return [*lines, f"b.ne {tiles}_same_mean", *([f"b {last}_same_mean"] if last else [])]


def _last_tile(shape: Binarizer, label: str, rows: int) -> list[str]:
    """A tile of fewer rows."""
    tile = f"{label}_{rows}"
    lines = [f"{tile}:", *_CLEARED, f"{tile}_same_mean:", *_apart(rows)]
    lines += [*_tile(shape, rows, tile), f"cbnz x2, {label}_mean"]
    return [*lines, *_lines(_scheduled(_means(rows))), f"b {label}_done"]


def _to_come(shape: Binarizer) -> list[str]:
    return [f"mov {to}, x{n}" for n, to in enumerate(_constants(shape), 1)]


def _constants(shape: Binarizer) -> list[str]:
    """Pointers to what every channel has for itself."""
    if shape.uniform:
        return []
    return ["x10", "x11"] if shape.same else ["x10", "x11", "x12"]


def _uniform(shape: Binarizer) -> tuple[str, ...]:
    """What holds the threshold, the shift and the second threshold of all channels, if any does.

    Where the second threshold is the shift: the threshold, and what x is compared with.
    """
    if not shape.uniform:
        return ()
    return (_THRESHOLD, _MINUS, _ONE) if shape.same else (_THRESHOLD, _SHIFT, _THRESHOLD2)


def _loaded(shape: Binarizer) -> list[str]:
    others = (_ONE, _MINUS) if shape.same else (_SHIFT, _THRESHOLD2)
    return [f"ld1r {{{v}.4s}}, [x{n}]" for n, v in enumerate((_THRESHOLD, *others), 1)]


def _apart(rows: int) -> list[str]:
    return apart(rows, "x15", first_to_last="x1", to_next="x4")


def _tile(shape: Binarizer, rows: int, label: str) -> list[str]:
    """Every step of a tile."""
    lines = ["mov x6, x0"]
    lines += [f"add x{6 + row}, x{5 + row}, x15, lsl #5" for row in range(1, rows)]
    lines += ["add x0, x0, x15, lsl #7", "lsr x17, x15, #2"]
    return lines + in_steps(f"{label}_steps", _step(shape, rows))


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


def _means(rows: int, *, of_all: bool = False) -> list[Instruction]:
    """Divide every row's sum, or the sum of all, and store it."""
    program: list[Instruction] = []
    text = "faddp {}.4s, {}.4s, {}.4s"
    total = added(program, tuple(f"v{n}" for n in _SUMS[:rows]), text, floating)
    if of_all:
        program.append(floating(text, total, total, total))
        program.append(floating(text, total, total, total))
        program.append(integer("mul w3, w3, w2", "x3", "x3", "x2"))
    divisor = _VALUES[0]
    program += [
        Instruction(f"dup {divisor}.4s, w3", ("x3",), ((divisor, 4),), "vector"),
        floating("scvtf {}.4s, {}.4s", divisor, divisor),
        floating("fdiv {}.4s, {}.4s, {}.4s", total, total, divisor),
    ]
    return program + store_lanes(total, "x5", 1 if of_all else rows)


def _scheduled(program: list[Instruction]) -> list[Instruction]:
    return [issued.instruction for issued in schedule(program)]


def _lines(program: list[Instruction]) -> list[str]:
    return [instruction.text for instruction in program]
