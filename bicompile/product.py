"""One binary matrix product as a program: as a network's layer has it, with float32 results."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tvm import te

from bicompile import calls, dual_workloads, workloads
from bicompile.artifact import Executable, TensorSpec
from bicompile.build import build_object
from bicompile.convolution import VECTOR_BYTES
from bicompile.driver import ENTRY
from bicompile.dual_workloads import Steps
from bicompile.errors import UserError
from bicompile.memory import plan_memory
from bicompile.program import Buffer, Call, Program
from bicompile.scheduling import schedule_program
from bicompile.targets import Target

MOST_UNITS = 1 << 23
"""Largest product that is compared; its run on the emulator is some thirty million instructions."""

_MOST_BYTES = 1 << 26  # of one side, as the emulator has room for
_LANES = 4


@dataclass(frozen=True)
class Product:
    """K bits a sum, M outputs (rows of weights), N columns (rows of activations)."""

    bits: int
    outputs: int
    columns: int

    @property
    def units(self) -> int:
        """M·N·ceil(K / 128)."""
        return calls.units(self.bits, self.outputs * self.columns)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row that hold bits."""
        return -(-self.bits // 8)

    def check(self) -> None:
        """Raise UserError where the product is too large to be run on the emulator."""
        sides = max(self.outputs, self.columns) * (self.row_bytes + VECTOR_BYTES)
        results = 4 * self.outputs * self.columns
        if self.units > MOST_UNITS or max(sides, results) > _MOST_BYTES:
            raise UserError(
                f"the shape {self.bits},{self.outputs},{self.columns} is too large to emulate: "
                f"give K, M and N with M·N·ceil(K / 128) of at most {MOST_UNITS}, and at most "
                f"{_MOST_BYTES >> 20} MiB of bits or results"
            )

    def operands(self, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Random packed activations (N, row_bytes) and weights (M, row_bytes), ends clear."""
        generator = np.random.default_rng(seed)

        def side(rows: int) -> NDArray[np.uint8]:
            bits = generator.integers(0, 256, (rows, self.row_bytes), np.uint8)
            if self.bits % 8:
                bits[:, -1] &= (1 << self.bits % 8) - 1
            return bits

        return side(self.columns), side(self.outputs)

    def meaning(self, rows: NDArray[np.uint8], weights: NDArray[np.uint8]) -> NDArray[np.float32]:
        """K − 2·popcount(row xor weights) in numpy: (N, M) float32, exact below 2^24."""
        results = np.empty((self.columns, self.outputs), np.float32)
        for column, row in enumerate(rows):
            differing = np.bitwise_count(row ^ weights).sum(axis=1, dtype=np.int64)
            results[column] = self.bits - 2 * differing
        return results


def product_program(product: Product, weights: NDArray[np.uint8]) -> Program:
    """The nests of a product, before any schedule: packed rows (N, stride) → (N, M) float32.

    Rows begin at whole vectors, as those of a network do; weights are (M, row_bytes) bits.
    """
    n, m, used = product.columns, product.outputs, product.row_bytes
    stride = _stride(product)
    padded = np.zeros((m, stride), np.uint8)
    padded[:, :used] = weights
    buffers = {"input": Buffer((n, stride), "uint8"), "output": Buffer((n, m), "float32")}
    if m % _LANES == 0:
        nest = dual_workloads.popcount_epilogue(
            n, m, stride, used_bytes=used, planes=1, products=product.bits, steps=Steps()
        )
        kernels = {"product": nest}
        called = [Call("product", ("input", "weights"), ("output",), "")]
    else:  # as a layer whose outputs are no whole vectors: counts, then what they mean
        counts = te.placeholder((n, m), "int32", "counts")
        result = te.compute(
            (n, m), lambda i, j: (product.bits - 2 * counts[i, j]).astype("float32"), "result"
        )
        kernels = {
            "count": workloads.popcount_gemm(n, m, stride, used_bytes=used),
            "convert": te.create_prim_func([counts, result]),
        }
        buffers["counts"] = Buffer((n, m), "int32")
        called = [
            Call("count", ("input", "weights"), ("counts",), ""),
            Call("convert", ("counts",), ("output",), ""),
        ]
    return Program(kernels, buffers, {"weights": padded}, tuple(called), "input", "output")


def build_product(
    product: Product, program: Program, rows: NDArray[np.uint8], target: Target, obj: Path
) -> tuple[Executable, NDArray[np.float32]]:
    """Schedule and build a product's program for a target; also its input, for these rows."""
    scheduled = schedule_program(program, target.arch)
    plan = plan_memory(scheduled)
    build_object(scheduled, plan, target, obj)
    stride = _stride(product)
    x = TensorSpec("rows", (product.columns * stride // 4,))
    y = TensorSpec("results", (product.columns, product.outputs))
    given = np.zeros((product.columns, stride), np.uint8)
    given[:, : product.row_bytes] = rows
    executable = Executable(obj, ENTRY, x, y, plan.workspace_bytes, target)
    return executable, given.reshape(-1).view(np.float32)


def _stride(product: Product) -> int:
    return -(-product.row_bytes // VECTOR_BYTES) * VECTOR_BYTES
