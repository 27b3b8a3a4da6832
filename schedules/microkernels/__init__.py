"""Microkernels: exact AArch64 assembly that we write ourselves, for what LLVM spoils.

LLVM reorders, unrolls and spills what a tile asks of it. Here every register is chosen by hand, a
list scheduler orders the instructions, and the text goes into an object as it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels import count_tree, weights
from bicompile.schedules.microkernels.count_tree import MOST_BYTES, Shape

__all__ = ["MOST_BYTES", "Microkernel", "Shape", "popcount_gemm"]


@dataclass(frozen=True)
class Microkernel:
    """A local function in assembly, and how its constant operand must lie.

    It is called as `name(const uint8_t *rows, const uint8_t *weights, T *results)`, where T is
    int32_t or float, and follows the procedure call standard. It reads weights as lay_out gives
    them and writes row-major results. Nothing needs more than the alignment of its type.
    """

    name: str
    shape: Shape
    assembly: str

    @property
    def result(self) -> str:
        """The type of its results."""
        return "int32" if self.shape.bits is None else "float32"

    def lay_out(self, constant: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, ≥ row_bytes) bits as the kernel reads them: 16·ceil(N / 16)·row_bytes bytes."""
        return weights.lay_out(constant, self.shape.row_bytes)

    def meaning(self, rows: NDArray[np.uint8], constant: NDArray[np.uint8]) -> NDArray[Any]:
        """What it computes, in numpy: (M, stride) and (N, ≥ row_bytes) bits → (M, N)."""
        used = self.shape.row_bytes
        differing = rows[:, None, :used] ^ constant[None, :, :used]
        counts: NDArray[np.int32] = np.bitwise_count(differing).sum(axis=-1, dtype=np.int32)
        if self.shape.bits is None:
            return counts
        return (self.shape.bits - 2 * counts).astype(np.float32)


def popcount_gemm(shape: Shape) -> Microkernel:
    """Differing bits between every row and every output's weights: see count_tree."""
    kind = "popcount" if shape.bits is None else f"dot{shape.bits}"
    name = f"{kind}_{shape.rows}x{shape.outputs}x{shape.row_bytes}of{shape.stride}"
    return Microkernel(name, shape, count_tree.assembly(name, shape))
