"""Popcount GEMM and what follows it, up to float32 results.

On aarch64 the nest becomes one call of a microkernel, see microkernels.epilogue. Elsewhere, and
where rows are too long for that, the counts are tiled, and then the results walked over once.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import s_tir, tirx

from bicompile.dual_workloads import PLANES, PRODUCTS
from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.decisions import Tile, decided
from bicompile.schedules.fused import vectorize
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels import tables
from bicompile.schedules.popcount_gemm import tiled
from bicompile.workloads import USED_BYTES

_TWO_24 = 2**24


def finished(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel, or tile and walk over the results, as is decided."""
    bare, decisions = decided(function, arch)
    if isinstance(decisions, Tile):
        schedule = tiled(function, arch)
        vectorize(schedule, schedule.get_sblock("epilogue", func_name="main"))
        return schedule
    return _called(bare, decisions)


def _called(function: tirx.PrimFunc, choices: microkernels.Choices) -> Kernel:
    rows, *_, result = function.params
    stride = int(rows.ty.shape[1])
    made = called(function, choices, stride, rows)
    if any(parameter.name in ("residual", "products") for parameter in function.params):
        return made
    return replace(made, stand_in=partial(called, function, choices, stride, rows, None, result))


def called(
    function: tirx.PrimFunc,
    choices: microkernels.Choices,
    stride: int,
    rows: Any,
    window: microkernels.Window | None = None,
    residual: Any = None,
) -> Kernel:
    """The nest as one call of a microkernel that reads its rows from the buffer `rows`.

    Where the nest has no residual, the microkernel may be one that adds it: see epilogue.
    """
    operands = {parameter.name: parameter for parameter in function.params[:-1]}
    if residual is not None:
        operands["residual"] = residual
    result = function.params[-1]

    def size(name: str) -> int:
        return int(operands[name].ty.shape[0]) if name in operands else 0

    m, n = (int(dim) for dim in result.ty.shape)
    row_bytes = int(operands["weights"].ty.shape[1])
    epilogue = microkernels.Epilogue(
        planes=int(function.attrs[PLANES]),
        products="products" in operands,
        scale=size("scale"),
        multiplier=size("multiplier"),
        shift=min(size("shift"), 2),
        slope="slope" in operands,
        residual="residual" in operands,
    )
    bits = None if epilogue.products else int(function.attrs[PRODUCTS])
    used = int(function.attrs[USED_BYTES])
    kernel = microkernels.popcount_gemm(
        microkernels.Shape(m, n, used, stride, bits, epilogue, choices, window)
    )
    absent = rows  # a pointer that nothing reads through
    last = "products" if epilogue.products else "residual"
    after = [operands.get(name, absent) for name in ("scale", "multiplier", "shift", "slope", last)]
    arguments = [rows, operands["weights"], result, *after]
    layouts: dict[int, Layout] = {
        list(operands).index("weights"): lambda w: kernel.lay_out(w.reshape(n, row_bytes))
    }
    if epilogue.products:
        layouts[list(operands).index("products")] = lambda products: _biases(products.reshape(m, n))
    if epilogue.shift > 1:
        layouts[list(operands).index("shift")] = lambda s: tables.lay_out(s.reshape(m, n))
    return Kernel(call(function, kernel.name, arguments), {kernel.name: kernel.assembly}, layouts)


def _biases(products: NDArray[np.int32]) -> NDArray[np.uint8]:
    """2^24 + products, exact where they are even, equal rows once."""
    return tables.lay_out((_TWO_24 + products).astype(np.float32))
