"""Microkernels: exact AArch64 assembly that we write ourselves, for what LLVM spoils.

LLVM reorders, unrolls and spills what a tile asks of it. Here every register is chosen by hand, a
list scheduler orders the instructions, and the text goes into an object as it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels import (
    count_tree,
    dual_depthwise,
    dual_scale,
    float_gemm,
    one_channel,
    spreading,
    threshold,
    weights,
)
from bicompile.schedules.microkernels.choices import Tree, usual
from bicompile.schedules.microkernels.dual_depthwise import Depthwise
from bicompile.schedules.microkernels.dual_scale import Binarizer
from bicompile.schedules.microkernels.epilogue import Epilogue
from bicompile.schedules.microkernels.float_gemm import FloatGemm
from bicompile.schedules.microkernels.one_channel import OneChannel
from bicompile.schedules.microkernels.shape import MOST_BYTES, Shape
from bicompile.schedules.microkernels.signs import Signs
from bicompile.schedules.microkernels.spreading import Spread
from bicompile.schedules.microkernels.threshold import Packer
from bicompile.schedules.microkernels.weights import VECTOR_BYTES, VECTORS_PER_CHUNK
from bicompile.schedules.microkernels.window import Window, columns

__all__ = [
    "MOST_BYTES",
    "VECTORS_PER_CHUNK",
    "VECTOR_BYTES",
    "Binarizer",
    "Depthwise",
    "Epilogue",
    "FloatGemm",
    "Microkernel",
    "OneChannel",
    "Packer",
    "Shape",
    "Signs",
    "Spread",
    "Tree",
    "Window",
    "binarize",
    "convolve_depthwise",
    "convolve_one_channel",
    "multiply",
    "pack",
    "popcount_gemm",
    "spread",
    "usual",
]


@dataclass(frozen=True)
class Microkernel:
    """A local function in assembly, and how its constant operand must lie.

    It is called as `name(const uint8_t *rows, const uint8_t *weights, T *results)`, where T is
    int32_t or float, and follows the procedure call standard; with an epilogue, whose arguments
    come after those, T is float. It reads weights as lay_out gives them and writes row-major
    results. Nothing needs more than the alignment of its type.
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
        gathered = constant[:, columns(self.shape.seen.runs)]
        return weights.lay_out(gathered, self.shape.row_bytes)

    def meaning(self, rows: NDArray[np.uint8], constant: NDArray[np.uint8]) -> NDArray[Any]:
        """What it computes, in numpy: (M, stride) and (N, ≥ row_bytes) bits → (M, N).

        Where it has a window, `rows` are all bytes of the image that it slides over.
        """
        used = self.shape.row_bytes
        if self.shape.window is not None:
            rows = rows.reshape(-1)[self.shape.window.bytes_of_rows()]
        differing = rows[:, None, :used] ^ constant[None, :, :used]
        counts: NDArray[np.int32] = np.bitwise_count(differing).sum(axis=-1, dtype=np.int32)
        if self.shape.bits is None:
            return counts
        return (self.shape.bits - 2 * counts).astype(np.float32)


def popcount_gemm(shape: Shape) -> Microkernel:
    """Differing bits between every row and every output's weights: see count_tree."""
    kind = "popcount" if shape.bits is None else f"dot{shape.bits}"
    where = f"of{shape.stride}" if shape.window is None else f"_{shape.window.name}"
    name = f"{kind}_{shape.rows}x{shape.outputs}x{shape.row_bytes}{where}"
    if shape.epilogue is not None:
        name += f"_{shape.epilogue.name}"
    if shape.signs is not None:
        name += "_signs_of_rows" if shape.signs.per_row else "_signs"
    choices = shape.tree.name(shape.usual)
    if choices:
        name += f"_{choices}"
    return Microkernel(name, shape, count_tree.assembly(name, shape))


def binarize(shape: Binarizer) -> str:
    """Assembly of dual-scale binarization, a function shape.name: see dual_scale."""
    return dual_scale.assembly(shape)


def pack(shape: Packer) -> str:
    """Assembly of threshold and pack, a function shape.name: see threshold."""
    return threshold.assembly(shape)


def convolve_depthwise(shape: Depthwise) -> str:
    """Assembly of a depthwise layer of two planes, a function shape.name: see dual_depthwise."""
    return dual_depthwise.assembly(shape)


def convolve_one_channel(shape: OneChannel) -> str:
    """Assembly of a float convolution, a function shape.name: see one_channel."""
    return one_channel.assembly(shape)


def spread(shape: Spread) -> str:
    """Assembly that spreads constants out, a function shape.name: see spreading."""
    return spreading.assembly(shape)


def multiply(shape: FloatGemm) -> str:
    """Assembly of a float product, a function shape.name: see float_gemm."""
    return float_gemm.assembly(shape)
