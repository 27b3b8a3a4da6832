"""The hottest inner loops of a run, and what they keep in which vector register."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bicompile.artifact import Executable
from bicompile.cost.decode import Instruction, decode
from bicompile.cost.registers import VECTOR_REGISTERS, followers_of, inner_loops
from bicompile.cost.report import Observed
from bicompile.devices.image import link

_VECTOR_0 = 32  # as decode numbers registers


@dataclass(frozen=True)
class Line:
    """One instruction of a loop.

    Attributes:
        text: as an assembler writes it.
        reads: vector registers that it reads.
        writes: vector registers that it writes.
        live: vector registers that hold what the loop reads later, after this instruction.
    """

    text: str
    reads: frozenset[int]
    writes: frozenset[int]
    live: frozenset[int]

    def use(self, register: int) -> str:
        """What becomes of a register: updated, written, read, live, or free."""
        if register in self.writes:
            return "updated" if register in self.reads else "written"
        if register in self.reads:
            return "read"
        return "live" if register in self.live else "free"


@dataclass(frozen=True)
class Loop:
    """An inner loop.

    Attributes:
        symbol: the function that it is in.
        modelled_cycles: of all its turns in one run.
        turns: how often its dearest instructions ran.
        lines: in the order they lie.
    """

    symbol: str
    modelled_cycles: int
    turns: int
    lines: tuple[Line, ...]

    @property
    def used(self) -> int:
        """How many vector registers it names."""
        return len(frozenset[int]().union(*(line.reads | line.writes for line in self.lines)))


def hottest_loops(executable: Executable, run: Observed, core: str, most: int = 3) -> list[Loop]:
    """The inner loops that took the most modelled cycles of a core, the dearest first.

    A loop without vector instructions is none here.
    """
    image = link(executable)
    start, code = image.code.address, image.code.data
    ends = [*(address for address, _ in image.symbols), start + len(code)]
    spent = np.bincount(run.trace.order, run.cycles[core], len(run.trace.blocks))
    loops = []
    for (_, symbol), (first, end) in zip(image.symbols, pairwise(ends), strict=True):
        function = decode(code[first - start : end - start], first)
        for loop in inner_loops(function):
            inside = [
                number
                for number, block in enumerate(run.trace.blocks)
                if (block.address - first) // 4 in loop and first <= block.address < end
            ]
            lines = lines_of(function, loop)
            if inside and any(line.reads for line in lines):
                turns = max(run.trace.times[number] for number in inside)
                loops.append(Loop(symbol, int(spent[inside].sum()), turns, lines))
    return sorted(loops, key=lambda loop: (-loop.modelled_cycles, loop.symbol))[:most]


def lines_of(function: Sequence[Instruction], loop: frozenset[int]) -> tuple[Line, ...]:
    """The instructions of a loop, by their indices in a function, with what is live after each."""
    order = sorted(loop)
    reads = {index: _vectors(function[index].reads) for index in order}
    writes = {index: _vectors(r for r, _ in function[index].writes) for index in order}
    before: dict[int, frozenset[int]] = dict.fromkeys(order, frozenset())
    after = dict(before)
    changed = True
    while changed:
        changed = False
        for index in reversed(order):
            inside = [other for other in followers_of(function, index) if other in loop]
            after[index] = frozenset[int]().union(*(before[other] for other in inside))
            wanted = reads[index] | (after[index] - writes[index])
            changed |= wanted != before[index]
            before[index] = wanted
    return tuple(Line(function[i].text, reads[i], writes[i], after[i]) for i in order)


def _vectors(registers: Iterable[int]) -> frozenset[int]:
    return frozenset(
        n - _VECTOR_0 for n in registers if _VECTOR_0 <= n < _VECTOR_0 + VECTOR_REGISTERS
    )
