"""From comparisons of 32 channels to 32 bits a row, in the order of the channels.

A comparison of four channels leaves all bits of a lane equal. Eight of those are merged into one
vector by SRI, a nibble each, the last channels first. Of nibble n in lane c one bit is kept, bit c,
so that the lanes of a row share no bit, and ADDP adds them: three for four rows.
"""

from collections import deque
from collections.abc import Callable, Sequence

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    floating,
    store_lane,
    vector,
)

Kind = Callable[..., Instruction]


def kept_bits(register: str, scratch: str) -> list[str]:
    """The constant that keeps bit c of every nibble in lane c."""
    lines = [f"mov {scratch}, #0x1111", f"movk {scratch}, #0x1111, lsl #16"]
    lines += [f"dup {register}.4s, {scratch}"]
    for lane in range(1, 4):
        lines += [f"lsl {scratch}, {scratch}, #1", f"mov {register}.s[{lane}], {scratch}"]
    return lines


def compared(into: str, x: str, threshold: str, *, greater: bool) -> Instruction:
    """x ≥ threshold, or x ≤ threshold, of four floats."""
    sides = (x, threshold) if greater else (threshold, x)
    return floating("fcmge {}.4s, {}.4s, {}.4s", into, *sides)


def merged(bits: str, comparison: str, to: int) -> Instruction:
    """A comparison becomes nibble `to` ≥ 1, counted from the highest; those above it stay."""
    return accumulating(f"sri {{}}.4s, {{}}.4s, #{4 * to}", bits, comparison)


def packed(
    rows: Sequence[str], kept: str, free: deque[str], pointer: str, *, by: str, last_by: str
) -> list[Instruction]:
    """Store 32 bits of each of 1 to 4 rows of nibbles.

    The pointer moves by what is in the register `by` after every row, after the last by `last_by`.
    """
    program = []
    values = [free.popleft() for _ in rows]
    for bits, value in zip(rows, values, strict=True):
        program.append(vector("and {}.16b, {}.16b, {}.16b", value, bits, kept))
    total = added(program, values, "addp {}.4s, {}.4s, {}.4s", vector)
    for row in range(len(rows)):
        moved_by = by if row < len(rows) - 1 else last_by
        program.append(store_lane(total, row, pointer, moved_by))
    free.extend(values)
    return program


def added(program: list[Instruction], rows: Sequence[str], text: str, kind: Kind) -> str:
    """Add the four lanes of up to four registers: lane r of the result is that of row r."""
    first, second = rows[0], rows[min(1, len(rows) - 1)]
    third, fourth = rows[min(2, len(rows) - 1)], rows[-1]
    if len(rows) > 2:
        program.append(kind(text, third, third, fourth))
    program.append(kind(text, first, first, second))
    program.append(kind(text, first, first, third if len(rows) > 2 else first))
    return first
