"""Popcount GEMM of which only signs are used: counts compared in registers and packed.

On aarch64 the nest becomes one call of a microkernel, see microkernels.signs: no count is stored.
Elsewhere, and where rows are too long for that, the counts are tiled, then compared and packed.
"""

from typing import Any

from tvm import s_tir, tirx

from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.decisions import Tile, decided
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.popcount_gemm import tiled
from bicompile.schedules.threshold import pack_bytes
from bicompile.sign_workloads import LIMITS
from bicompile.workloads import USED_BYTES


def signed(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel, or tile and pack, as is decided."""
    bare, decisions = decided(function, arch)
    if isinstance(decisions, Tile):
        schedule = tiled(function, arch)
        pack_limits(schedule)
        return schedule
    return called(bare, decisions, int(bare.params[0].ty.shape[1]), bare.params[0])


def pack_limits(schedule: s_tir.Schedule) -> None:
    """Schedule the comparison of tiled counts."""
    limits = schedule.mod["main"].params[2].ty
    block = schedule.get_sblock("pack", func_name="main")
    if int(limits.shape[1]) % 8 == 0:
        pack_bytes(schedule, block, greater=False, dtype=str(limits.dtype))


def called(
    function: tirx.PrimFunc,
    choices: microkernels.Choices,
    stride: int,
    rows: Any,
    window: microkernels.Window | None = None,
) -> Kernel:
    """The nest as one call of a microkernel that reads its rows from the buffer `rows`."""
    _, weights, limits, result = function.params
    n, row_bytes = (int(dim) for dim in weights.ty.shape)
    signs = microkernels.Signs(n, per_row=int(function.attrs[LIMITS]) > 1)
    shape = microkernels.Shape(
        int(result.ty.shape[0]),
        n,
        int(function.attrs[USED_BYTES]),
        stride,
        choices=choices,
        window=window,
        signs=signs,
    )
    kernel = microkernels.popcount_gemm(shape)
    body = call(function, kernel.name, [rows, weights, result, limits])
    layouts: dict[int, Layout] = {
        1: lambda w: kernel.lay_out(w.reshape(n, row_bytes)),
        2: lambda most: signs.lay_out(most.reshape(-1, n)),
    }
    return Kernel(body, {kernel.name: kernel.assembly}, layouts)
