"""What follows a binary product of which only signs are used: from its sums of 16 bits to bits.

A bit is set where a count is below a bound, one for every output, or for every output of every row.
Two comparisons leave 16 outputs of a row in lanes of 16 bits; UZP1 makes bytes of them, of which
each keeps another bit, and three ADDP, shared by the rows of a tile, add eight of them to a byte.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels import tables
from bicompile.schedules.microkernels.instructions import (
    INTEGER_LATENCY,
    Instruction,
    load_pair,
    vector,
)
from bicompile.schedules.microkernels.tables import next_row
from bicompile.schedules.microkernels.weights import BLOCK

REGISTERS = """\
v14      bit c % 8 in lane c
x13 bounds to come, x11 those of the second row; x16 bounds of the first output, or where those of
the next row are told (see tables)"""

_KEPT = "v14"
_BOUND_BYTES = 2


@dataclass(frozen=True)
class Signs:
    """The bounds of a product's counts.

    Attributes:
        outputs: N.
        per_row: whether every row has bounds of its own.
    """

    outputs: int
    per_row: bool

    @property
    def result_bytes(self) -> int:
        """Bytes of a row of bits."""
        return -(-self.outputs // 8)

    @property
    def bound_bytes(self) -> int:
        """Bytes of a row of bounds: those of whole blocks of outputs."""
        return -(-self.outputs // BLOCK) * BLOCK * _BOUND_BYTES

    def lay_out(self, limits: NDArray[np.int32]) -> NDArray[np.uint16] | NDArray[np.uint8]:
        """(L, N) largest counts that set a bit, any integers → bounds of whole blocks of outputs.

        Those of every row are a table, see tables.
        """
        bounds = np.zeros((len(limits), self.bound_bytes // _BOUND_BYTES), np.uint16)
        bounds[:, : self.outputs] = np.clip(limits.astype(np.int64) + 1, 0, 2**16 - 1)
        return tables.lay_out(bounds) if self.per_row else bounds

    def arguments(self) -> list[str]:
        """Move what comes after rows and weights, results and bounds, to where tiles read it."""
        lines = ["mov x6, x2", "mov x16, x3"]
        lines += ["mov x11, #0x0201", "movk x11, #0x0804, lsl #16", "movk x11, #0x2010, lsl #32"]
        lines += ["movk x11, #0x8040, lsl #48", f"dup {_KEPT}.2d, x11"]
        return [f"\t{line}" for line in lines]

    def begin(self, rows: int) -> list[str]:
        """Before a tile of `rows` rows."""
        if not self.per_row:
            lines = ["mov x13, x16"]
        else:
            lines = next_row("x13", "x16") + (next_row("x11", "x16") if rows > 1 else [])
        return [f"\t{line}" for line in lines]


def finish(
    program: list[Instruction],
    signs: Signs,
    rows: Sequence[int],
    outputs: int,
    free: deque[str],
    sums: Callable[[int, int], str],
) -> None:
    """Add the bits of the first `outputs` of 16 outputs of every row.

    `sums(row, half)` is the register of eight counts.
    """
    compared: list[str] = []
    bounds: list[str] = []
    for row in rows:
        if not bounds or signs.per_row:
            free.extend(bounds)
            bounds = [free.popleft(), free.popleft()]
            program.append(load_pair(bounds[0], bounds[1], "x11" if row else "x13"))
        halves = [free.popleft(), free.popleft()]
        for half, value in enumerate(halves):
            operands = (bounds[half], sums(row, half))
            program.append(vector("cmhi {}.8h, {}.8h, {}.8h", value, *operands))
        program.append(vector("uzp1 {}.16b, {}.16b, {}.16b", halves[0], *halves))
        program.append(vector("and {}.16b, {}.16b, {}.16b", halves[0], halves[0], _KEPT))
        compared.append(halves[0])
        free.append(halves[1])
    free.extend(bounds)
    total, other = compared[0], compared[-1]
    program.append(vector("addp {}.16b, {}.16b, {}.16b", total, total, other))
    for _ in range(2):
        program.append(vector("addp {}.16b, {}.16b, {}.16b", total, total, total))
    for row in rows:
        program.append(_store(total, row, f"x{6 + row}", whole=outputs > 8))
    free.extend(compared)


def _store(source: str, row: int, pointer: str, *, whole: bool) -> Instruction:
    """The two bytes of a row, or the first of them; the pointer moves past them."""
    place = f"{{{source}.h}}[{row}], [{pointer}], #2" if whole else f"{{{source}.b}}[{2 * row}]"
    text = f"st1 {place}" if whole else f"st1 {place}, [{pointer}], #1"
    return Instruction(text, (source, pointer), ((pointer, INTEGER_LATENCY),), "memory")
