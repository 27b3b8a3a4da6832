"""What may be chosen of a count_tree kernel; nothing of it changes what the kernel computes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    LOAD_LATENCY,
    VECTOR_LATENCY,
    Instruction,
)

_LONGEST_UNROLLED = 8
"""Vectors of a row that are unrolled where nothing else is chosen."""


@dataclass(frozen=True)
class Tree:
    """The choices; the defaults are for an in-order core.

    Attributes:
        rows: of a tile, 1 or 2: they share every load of weights.
        unrolled: 1 where all of a row is one straight program, 0 where there is a loop over chunks
            (in rows of more than one chunk), None where the length of the row decides.
        weight_pairs: pairs of registers that weights take in turn, 1 to 3: how far their loads can
            be ahead.
        load_latency: cycles after which the order of instructions expects what a load brings.
        vector_latency: the same of an integer vector instruction.
        overlap: 1 where one block of outputs begins while the one before ends, 0 where it waits.
    """

    rows: int = 2
    unrolled: int | None = None
    weight_pairs: int = 3
    load_latency: int = LOAD_LATENCY
    vector_latency: int = VECTOR_LATENCY
    overlap: int = 1

    def unrolls(self, vectors: int) -> bool:
        """Whether rows of so many vectors are unrolled."""
        return vectors <= _LONGEST_UNROLLED if self.unrolled is None else bool(self.unrolled)

    def name(self, vectors: int) -> str:
        """What differs from the defaults for rows of so many vectors, as letters and digits."""
        usual, chosen = DEFAULTS, dataclasses.asdict(self)
        if self.unrolls(vectors) == usual.unrolls(vectors):
            del chosen["unrolled"]
        differing = {name: n for name, n in chosen.items() if n != getattr(usual, name)}
        return "".join(f"{name[0]}{number}" for name, number in differing.items())

    def expected(self, program: Sequence[Instruction]) -> list[Instruction]:
        """The program with the latencies that its order expects."""
        latencies = {"memory": (LOAD_LATENCY, self.load_latency)}
        latencies["vector"] = (VECTOR_LATENCY, self.vector_latency)
        seen = []
        for step in program:
            usual, latency = latencies.get(step.unit, (0, 0))
            writes = tuple(
                (register, latency if cycles == usual else cycles)
                for register, cycles in step.writes
            )
            seen.append(dataclasses.replace(step, writes=writes))
        return seen


DEFAULTS = Tree()
