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

Kind = Callable[..., Instruction]


def kept_bits(register: str, others: Sequence[str]) -> list[str]:
    """The constant that keeps bit c of every nibble in lane c; three other vectors are used up."""
    second, third, fourth = others
    lines = [f"movi {v}.16b, #{0x11 << c}" for c, v in enumerate((register, *others))]
    lines += [f"zip1 {register}.4s, {register}.4s, {second}.4s"]
    lines += [f"zip1 {third}.4s, {third}.4s, {fourth}.4s"]
    return [*lines, f"zip1 {register}.2d, {register}.2d, {third}.2d"]


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


def in_steps(label: str, step: Sequence[Instruction], times: int) -> list[str]:
    """A loop over steps, of which two overlap; it counts in x17."""
    stages = in_two_stages(step, "x17", last="sri")
    begun, finish = (
        [instruction.text for instruction in part] for part in (stages.begun(times), stages.finish)
    )
    if times == 1:
        return [*begun, *finish]
    return [f"mov x17, #{times}", *begun, *stages.turns(label), *finish]


def function(name: str, registers: str, lines: Sequence[str]) -> str:
    """A local function in assembly, and above it what its registers hold."""
    about = "\n".join(f"// {line}" for line in registers.splitlines())
    body = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body}\n"
        f"\t.size {name}, . - {name}\n"
    )
