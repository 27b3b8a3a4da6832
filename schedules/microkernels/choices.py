"""What may be chosen of a product's kernel; nothing of it changes what the kernel computes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import (
    LOAD_LATENCY,
    VECTOR_LATENCY,
    Instruction,
)
from bicompile.schedules.microkernels.reorder import reordered
from bicompile.schedules.microkernels.weights import BLOCK, VECTOR_BYTES

_LONGEST_UNROLLED = 8


class _Ordered:
    """How the instructions of a kernel are ordered."""

    load_latency: int
    vector_latency: int
    order: int

    def prepared(self, program: Sequence[Instruction]) -> list[Instruction]:
        """The program in its order of this number, with the latencies that are expected."""
        latencies = {"memory": (LOAD_LATENCY, self.load_latency)}
        latencies["vector"] = (VECTOR_LATENCY, self.vector_latency)
        seen = []
        for step in reordered(program, self.order):
            usual, latency = latencies.get(step.unit, (0, 0))
            writes = tuple(
                (register, latency if cycles == usual else cycles)
                for register, cycles in step.writes
            )
            seen.append(dataclasses.replace(step, writes=writes))
        return seen


@dataclass(frozen=True)
class Tree(_Ordered):
    """The choices of count_tree.

    Attributes:
        rows: of a tile, 1 or 2: they share every load of weights.
        unrolled: 1 where all of a row is one straight program, 0 where there is a loop over chunks
            (in rows of more than one chunk).
        weight_pairs: pairs of registers that weights take in turn, 1 to 3, with an epilogue 1 or 2:
            how far their loads can be ahead.
        load_latency: cycles after which the order of instructions expects what a load brings.
        vector_latency: the same of an integer vector instruction.
        overlap: 1 where one block of outputs begins while the one before ends, 0 where it waits.
        order: number of the order that instructions have before they are scheduled; 0 is the one
            they are written in (see reorder).
    """

    rows: int
    unrolled: int
    weight_pairs: int
    load_latency: int
    vector_latency: int
    overlap: int
    order: int

    def name(self, usual: "Tree") -> str:
        """What differs from the usual choices, as letters and digits."""
        chosen, other = dataclasses.asdict(self), dataclasses.asdict(usual)
        return "".join(f"{name[0]}{n}" for name, n in chosen.items() if n != other[name])

    @property
    def block(self) -> int:
        """Outputs of a tile."""
        return BLOCK

    def is_straight(self, _row_bytes: int) -> bool:
        """Whether a row of more than one chunk is one straight program."""
        return bool(self.unrolled)


@dataclass(frozen=True)
class Interleaved(_Ordered):
    """The choices of interleaved.

    Attributes:
        outputs: of a tile, 16 or 32: they share every repeated byte of activations.
        load_latency: as of a tree.
        vector_latency: as of a tree.
        order: as of a tree.
    """

    outputs: int
    load_latency: int
    vector_latency: int
    order: int

    @property
    def name(self) -> str:
        """All of them as letters and digits."""
        chosen = dataclasses.asdict(self)
        return "interleaved_" + "".join(f"{name[0]}{n}" for name, n in chosen.items())

    @property
    def rows(self) -> int:
        """Rows of activations of a tile."""
        return 2

    @property
    def overlap(self) -> int:
        """One block of outputs begins while the one before ends."""
        return 1

    @property
    def block(self) -> int:
        """Outputs of a tile."""
        return self.outputs

    def is_straight(self, row_bytes: int) -> bool:
        """Whether a row of so many bytes is one straight program."""
        return row_bytes // VECTOR_BYTES <= _LONGEST_UNROLLED


Choices = Tree | Interleaved
"""Those of a kernel; their type says which one it is."""


def usual(vectors: int, *, finished: bool) -> Tree:
    """What is chosen where nobody chose, for rows of so many vectors.

    `finished` says that there is an epilogue. The latencies are those of an in-order core.
    """
    return Tree(
        rows=2,
        unrolled=int(vectors <= _LONGEST_UNROLLED),
        weight_pairs=2 if finished else 3,
        load_latency=LOAD_LATENCY,
        vector_latency=VECTOR_LATENCY,
        overlap=1,
        order=0,
    )
