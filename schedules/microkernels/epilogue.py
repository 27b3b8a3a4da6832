"""What follows a binary product, in registers: from its sums of 16 bits to float32 results.

A tile ends with the popcounts of two rows. They are two rows of results, or the two planes of one
row, whose products are added here: a₁ + scale·a₂. Then come a factor for every output or one for
all, a shift for every output, PReLU as max(a, slope·a), and a residual, each where there is one, in
this order. A product and the sum after it are one multiply-add, rounded once.

Where the residual is the results themselves, nothing is added: the kernel fills them with −0 first,
and x + −0 is x, bit for bit.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    FLOAT_LATENCY,
    Instruction,
    accumulating,
    add_constant,
    floating,
    load,
    load_at,
    load_pair,
    load_pair_at,
    store_lanes,
    store_pair,
)
from bicompile.schedules.microkernels.tables import next_row

REGISTERS = """\
v12      scale, of the row or of all
v13      slope; in lane 1 the multiplier, where all outputs have the same
x12 scale, x13 multiplier to come, x14 shift to come, x15 residual or 2^24 + products to come;
x11 residual of the second row to come; x16 multiplier, x2 shift of the first output
with a row for each result (see tables): x2 and x7 where shifts and products are told"""

_SCALE, _SLOPE = "v12", "v13"
_ONE_SLOPE, _ONE_MULTIPLIER = "v13.s[0]", "v13.s[1]"
_LANES = 4


@dataclass(frozen=True)
class Epilogue:
    """The steps of an epilogue.

    Attributes:
        planes: of a row of results: 1, or 2 that lie all rows apart.
        products: whether every result has a number of products by itself, given as the float32
            2^24 + products, as tables.lay_out gives them.
        scale: factors of the second plane: 0 where there is one plane, 1, or one for every row.
        multiplier: factors: 0, 1 for all outputs, or one for every output.
        shift: 0, 1 for a shift of every output, 2 for one of every result, as tables.lay_out gives
            them.
        slope: whether there is a PReLU; its one slope is at most 1.
        residual: whether something like the results is added.
    """

    planes: int
    products: bool
    scale: int
    multiplier: int
    shift: int
    slope: bool
    residual: bool

    @property
    def name(self) -> str:
        """Its steps as letters and digits."""
        multiplier = "s" if self.multiplier == 1 else int(self.multiplier > 1)
        flags = (min(self.scale, 2), multiplier, self.shift, int(self.slope), int(self.residual))
        return f"p{self.planes}{int(self.products)}" + "".join(map(str, flags))

    def arguments(self) -> list[str]:
        """Move the arguments after rows, weights and results to where tiles read them.

        They are, in x3 to x7: scale, multiplier, shift, slope, and residual or products.
        """
        lines = ["ld1r {v13.4s}, [x6]"] if self.slope else []
        lines += ["ld1 {v13.s}[1], [x4]"] if self.multiplier == 1 else []
        lines += ["mov x6, x2", "mov x12, x3", "mov x16, x4", "mov x2, x5", "mov x14, x5"]
        lines += ["mov x15, x7"]
        lines += ["ld1r {v12.4s}, [x12]"] if self.scale == 1 else []
        return [f"\t{line}" for line in lines]

    def without_residual(self, name: str, size: int) -> list[str]:
        """First of all: fill the `size` bytes of results with −0 if they are the residual."""
        if not self.residual:
            return []
        vectors = next(count for count in (8, 4, 2, 1) if size % (16 * count) == 0)
        turns = size // (16 * vectors)
        lines = ["cmp x7, x2", f"b.ne .L{name}_added", "movi v16.4s, #0x80, lsl #24", "mov x8, x2"]
        lines += [f"mov x9, #{turns & 0xFFFF}"]
        lines += [f"movk x9, #{turns >> 16}, lsl #16"] if turns >> 16 else []
        lines += [f".L{name}_nothing:", "subs x9, x9, #1"]
        lines += ["stp q16, q16, [x8], #32"] * (vectors // 2) or ["str q16, [x8], #16"]
        return [f"\t{line}" for line in [*lines, f"b.ne .L{name}_nothing", f".L{name}_added:"]]

    def begin(self, rows: int, result_bytes: int) -> list[str]:
        """Before a tile of `rows` rows of results."""
        lines = ["mov x13, x16"] if self.multiplier > 1 else []
        lines += ["mov x14, x2"] if self.shift == 1 else []
        lines += next_row("x14", "x2") if self.shift > 1 else []
        lines += next_row("x15", "x7") if self.products else []
        lines += ["ld1r {v12.4s}, [x12], #4"] if self.scale > 1 else []
        if self.residual and rows > 1:
            lines += ["mov x11, x15", *(step.text for step in add_constant("x11", result_bytes))]
        return [f"\t{line}" for line in lines]


def finish(
    program: list[Instruction],
    epilogue: Epilogue,
    rows: Sequence[int],
    quads: int,
    free: deque[str],
    dot: Callable[[int, int, str | None], str],
) -> None:
    """Add one or two vectors of results for every row: what `dot` gives, and the steps after it.

    `rows` are those of the tile; `dot(row, quad, bias)` adds K − 2·popcount of four outputs and
    returns its register; `bias` has 2^24 + K where that is not the same for all.
    """

    def loaded(pointer: str, *, again: bool = False) -> list[str]:
        """Operands of all quads; they are to come `again`, or the pointer moves past them."""
        registers = [free.popleft() for _ in range(quads)]
        if quads == 2:
            first, second = registers
            make = (
                load_pair_at(first, second, pointer, 0)
                if again
                else load_pair(first, second, pointer)
            )
        else:
            (one,) = registers
            make = load_at(one, pointer, 0) if again else load(one, pointer)
        program.append(make)
        return registers

    def dots(row: int, biases: list[str]) -> list[str]:
        return [dot(row, quad, biases[quad] if biases else None) for quad in range(quads)]

    def each(text: str, values: list[str], by: list[str]) -> None:
        for value, operand in zip(values, by, strict=True):
            program.append(floating(text, value, value, operand))

    def multiply(into: str, value: str, by: str) -> None:
        text = f"fmul {{}}.4s, {{}}.4s, {_factor(by)}"
        program.append(floating(text, into, value, _register(by)))

    def multiply_add(into: list[str], values: list[str], by: list[str]) -> None:
        for total, value, factor in zip(into, values, by, strict=True):
            text = f"fmla {{}}.4s, {{}}.4s, {_factor(factor)}"
            operands = (total, value, _register(factor))
            program.append(accumulating(text, *operands, latency=FLOAT_LATENCY))

    biases = loaded("x15") if epilogue.products else []
    totals = [dots(row, biases) for row in rows]
    free.extend(biases)
    if epilogue.planes == 2:
        first, second = totals
        multiply_add(first, second, [_SCALE] * quads)
        free.extend(second)
        totals = [first]
    has_one = epilogue.multiplier == 1
    kept = loaded("x13") if epilogue.multiplier > 1 else []
    multipliers = [_ONE_MULTIPLIER] * quads if has_one else kept
    for row, total in enumerate(totals):
        if epilogue.shift:
            shifts = loaded("x14", again=row + 1 < len(totals))
            if multipliers:
                multiply_add(shifts, total, multipliers)
            else:
                each("fadd {}.4s, {}.4s, {}.4s", shifts, total)
            free.extend(total)
            totals[row] = shifts
        elif multipliers:
            for value, factor in zip(total, multipliers, strict=True):
                multiply(value, value, factor)
    free.extend(kept)
    if epilogue.slope:
        for total in totals:
            below = [free.popleft() for _ in total]
            for into, value in zip(below, total, strict=True):
                multiply(into, value, _ONE_SLOPE if has_one else _SLOPE)
            each("fmax {}.4s, {}.4s, {}.4s", total, below)
            free.extend(below)
    for row, total in enumerate(totals):
        if epilogue.residual:
            operands = loaded(("x15", "x11")[row])
            each("fadd {}.4s, {}.4s, {}.4s", total, operands)
            free.extend(operands)
        pointer = f"x{6 + row}"
        if quads == 2:
            program.append(store_pair(total[0], total[1], pointer))
        else:
            program += store_lanes(total[0], pointer, _LANES)
        free.extend(total)


def _factor(by: str) -> str:
    """The last operand of a product: a register, or one lane of it."""
    return by if "." in by else f"{by}.4s"


def _register(operand: str) -> str:
    return operand.partition(".")[0]
