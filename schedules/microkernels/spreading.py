"""Constants in fewer bytes, spread out to float32: exact AArch64 assembly, one for all lengths.

A step takes 32 numbers; the steps of a call are counted in a register.
"""

from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    floating,
    load_pair,
    store_pair,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import in_two_stages
from bicompile.schedules.microkernels.packing import function
from bicompile.spread_workloads import Form

NUMBERS = 32
"""Of a step."""

REGISTERS = """\
x0 what lies in the object, x1 two float32, x2 results; x3 steps left
v16-v19  8 numbers of 16 bits each, v28, v29 16 of 8 bits
v0-v7    4 numbers of 32 bits each, v20-v27 results
v30, v31 the two float32 in every lane, of "steps" the first as a whole number"""

_HALVES = [f"v{16 + i}" for i in range(4)]
_QUADS = [(f"v{i}", f"v{20 + i}") for i in range(8)]


@dataclass(frozen=True)
class Spread:
    """What a kernel computes: (n,) numbers and, but for "halves", (2,) float32 → (n,) float32.

    Attributes:
        form: "halves" converts, "steps" is (a + level) · b with a whole number a, "line" is
            a + level · b.
        dtype: of the numbers: float16 for "halves", else uint8 or uint16.
    """

    form: Form
    dtype: str

    @property
    def name(self) -> str:
        """A name of its own."""
        return f"spread_{self.form}_{self.dtype}"


def assembly(shape: Spread) -> str:
    """The kernel as a local function (numbers, two float32, results, steps)."""
    lines = []
    if shape.form != "halves":
        lines.append("ldp s30, s31, [x1]")
        lines += ["fcvtzs s30, s30"] if shape.form == "steps" else []
        lines += ["dup v30.4s, v30.s[0]", "dup v31.4s, v31.s[0]"]
    last = "fcvtl2" if shape.form == "halves" else "scvtf"
    stages = in_two_stages(_step(shape), "x3", last)
    first, finish = ([step.text for step in part] for part in (stages.first, stages.finish))
    lines += ["mov w3, w3", *first, *stages.turns(f".L{shape.name}"), *finish, "ret"]
    return function(shape.name, REGISTERS, lines)


def _step(shape: Spread) -> list[Instruction]:
    program = []
    if shape.dtype == "uint8":
        program.append(load_pair("v28", "v29", "x0"))
        for index, half in enumerate(_HALVES):
            end, lanes = (("", "8b"), ("2", "16b"))[index % 2]
            source = ("v28", "v29")[index // 2]
            program.append(vector(f"ushll{end} {{}}.8h, {{}}.{lanes}, #0", half, source))
    else:
        first, second, third, fourth = _HALVES
        program += [load_pair(first, second, "x0"), load_pair(third, fourth, "x0")]
    for index, (quad, result) in enumerate(_QUADS):
        program += _four(shape.form, _HALVES[index // 2], index % 2 == 1, quad, result)
    for (_, first), (_, second) in zip(_QUADS[::2], _QUADS[1::2], strict=True):
        program.append(store_pair(first, second, "x2"))
    return program


def _four(form: Form, half: str, upper: bool, quad: str, result: str) -> list[Instruction]:
    """Four of eight numbers of 16 bits."""
    end, lanes = ("2", "8h") if upper else ("", "4h")
    if form == "halves":
        return [floating(f"fcvtl{end} {{}}.4s, {{}}.{lanes}", result, half)]
    if form == "steps":
        first = vector(f"uaddw{end} {{}}.4s, {{}}.4s, {{}}.{lanes}", quad, "v30", half)
    else:
        first = vector(f"ushll{end} {{}}.4s, {{}}.{lanes}, #0", quad, half)
    program = [first, floating("scvtf {}.4s, {}.4s", quad, quad)]
    program.append(floating("fmul {}.4s, {}.4s, {}.4s", result, quad, "v31"))
    if form == "line":
        program.append(floating("fadd {}.4s, {}.4s, {}.4s", result, result, "v30"))
    return program
