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
from bicompile.schedules.microkernels.list_scheduler import in_two_stages

CHANNELS = 32
"""What a step packs of every row."""

ROWS = 4
"""Rows of a tile at most."""

Kind = Callable[..., Instruction]


def kept_bits(register: str) -> list[str]:
    """The constant that keeps bit c of every nibble in lane c; x16 and x17 are used up."""
    return [
        "mov w16, #0x11111111",
        "orr x16, x16, x16, lsl #33",
        "lsl x17, x16, #2",
        f"fmov d{register[1:]}, x16",
        f"mov {register}.d[1], x17",
    ]


def compared(
    into: str, x: str, threshold: str, *, greater: bool, dtype: str = "float32"
) -> Instruction:
    """x ≥ threshold, or x ≤ threshold, of four float32 or int32."""
    sides = (x, threshold) if greater else (threshold, x)
    if dtype == "int32":
        return vector("cmge {}.4s, {}.4s, {}.4s", into, *sides)
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


def tiles_of(rows: int) -> tuple[bool, int]:
    """Whether there are whole tiles, and the rows of another one after them, or 0."""
    return rows >= ROWS, rows % ROWS


def tile_names(rows: int) -> str:
    """The rows of every kind of tile there is."""
    whole, last = tiles_of(rows)
    return f"{ROWS if whole else ''}{last or ''}"


def apart(rows: int, row_bytes: str, *, first_to_last: str, to_next: str) -> list[str]:
    """Set how far it is from a tile's first row of bits to its last, and from there to the next
    step's first.
    """
    lines = {
        1: f"mov {first_to_last}, #0",
        2: f"mov {first_to_last}, {row_bytes}",
        3: f"lsl {first_to_last}, {row_bytes}, #1",
        4: f"add {first_to_last}, {row_bytes}, {row_bytes}, lsl #1",
    }
    next_step = [f"mov {to_next}, #{CHANNELS // 8}", f"sub {to_next}, {to_next}, {first_to_last}"]
    return [lines[rows], *next_step]


def in_steps(label: str, step: Sequence[Instruction]) -> list[str]:
    """A loop over steps, of which two overlap; x17 has their number, at least one."""
    stages = in_two_stages(step, "x17", last="sri")
    first, finish = ([step.text for step in part] for part in (stages.first, stages.finish))
    return [*first, *stages.turns(label), *finish]


def function(name: str, registers: str, lines: Sequence[str]) -> str:
    """A local function in assembly, and above it what its registers hold."""
    about = "\n".join(f"// {line}" for line in registers.splitlines())
    body = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body}\n"
        f"\t.size {name}, . - {name}\n"
    )
