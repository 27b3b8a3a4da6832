"""Float kernels as fusion leaves them: a chain of small nests with a buffer between each two.

Elementwise nests are inlined into whoever reads them, so that one pass over the data is left and
nothing between is stored. A sum whose terms lie side by side in memory goes through four partial
sums, since float addition may not be reordered by LLVM; a sum along another axis walks the
contiguous axis innermost. The innermost loop of what is left is vectorized where it divides evenly.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from bicompile.schedules.kernel import Kernel

_PARTIAL_SUMS = 4
_FEW_SUMS = 16
"""So many results at most leave registers free for partial sums of each."""

_LANES = (8, 4)
_ROW_BYTES = range(64, 257)
"""Of rows that are copied at once."""

_SUMMED = tirx.IterVar.CommReduce


def inlined(function: tirx.PrimFunc, _arch: str) -> s_tir.Schedule | Kernel:
    """Inline what can be, then order the loops of the sums that stay; what TVM refuses stays."""
    try:
        return _inlined(function)
    except Exception:  # TVM's of any kind, and Python's: a foreign nest may have any form
        return Kernel(function)


def _inlined(function: tirx.PrimFunc) -> s_tir.Schedule:
    schedule = s_tir.Schedule(function)
    for block in _blocks(schedule):
        if not (
            _is_sum(schedule, block)
            or _feeds_a_product(schedule, block)
            or _is_transposed(schedule, block)
        ):
            try:
                schedule.compute_inline(block)
            except ScheduleError:
                continue  # the kernel's output, or read by a nest that cannot take it
    for block in _blocks(schedule):
        if _is_sum(schedule, block):
            order_sum(schedule, block)
        elif _copies_rows(schedule, block):
            copy_rows(schedule, block)
        else:
            vectorize(schedule, block)
    return schedule


def _feeds_a_product(schedule: s_tir.Schedule, block: SBlockRV) -> bool:
    """Whether a sum reads it many times: what pads a convolution is computed once, then read."""
    return any(
        _is_sum(schedule, consumer) and len(schedule.get(consumer).reads) > 1
        for consumer in schedule.get_consumers(block)
    )


def _is_transposed(schedule: s_tir.Schedule, block: SBlockRV) -> bool:
    """Whether its reader walks it across memory: computed once as it lies, it can be vectorized."""
    written = schedule.get(block).writes[0].source
    for consumer in map(schedule.get, schedule.get_consumers(block)):
        last = [dim.min for dim in consumer.writes[0].region][-1:]
        for read in consumer.reads:
            index = [dim.min for dim in read.region][-1:]
            if read.source.same_as(written) and index and isinstance(index[0], tirx.Var):
                return not (last and index[0].same_as(last[0]))
    return False


def _copies_rows(schedule: s_tir.Schedule, block: SBlockRV) -> bool:
    """Whether it only moves rows, that are some vectors long and lie apart."""
    body = schedule.get(block)
    *outer, last = schedule.get_loops(block)
    row = body.writes[0].source.ty
    row_bytes = int(schedule.get(last).extent) * np.dtype(str(row.dtype)).itemsize
    is_copy = isinstance(body.body, tirx.BufferStore) and isinstance(body.body.value, TensorLoad)
    return bool(is_copy and outer and row_bytes % 16 == 0 and row_bytes in _ROW_BYTES)


def copy_rows(schedule: s_tir.Schedule, block: SBlockRV) -> None:
    """A loop over all rows, and a row at once: LLVM unrolls nests of short loops to no end."""
    *outer, last = schedule.get_loops(block)
    schedule.fuse(*outer)
    schedule.vectorize(last)


def vectorize(schedule: s_tir.Schedule, block: SBlockRV) -> None:
    """Vectorize the innermost loop of a block where it divides evenly."""
    *_, last = schedule.get_loops(block)
    extent = int(schedule.get(last).extent)
    lanes = next((lanes for lanes in _LANES if extent % lanes == 0), None)
    if lanes is not None:
        _, inner = schedule.split(last, [None, lanes])
        schedule.vectorize(inner)


def _blocks(schedule: s_tir.Schedule) -> list[SBlockRV]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root", func_name="main")))


def _is_sum(schedule: s_tir.Schedule, block: SBlockRV) -> bool:
    return any(axis.iter_type == _SUMMED for axis in schedule.get(block).iter_vars)


def order_sum(schedule: s_tir.Schedule, block: SBlockRV) -> None:
    """Sum through four partial sums, or walk the contiguous axis innermost."""
    axes = schedule.get(block).iter_vars
    loops = schedule.get_loops(block)
    if len(loops) != len(axes):
        return  # already nested in another way
    summed = [loop for loop, axis in zip(loops, axes, strict=True) if axis.iter_type == _SUMMED]
    spatial = [loop for loop in loops if loop not in summed]
    last = _contiguous_axis(schedule, block)
    if last is None:
        return
    if loops[last] not in summed:
        innermost = loops[last]
        if len(summed) == 1 and _are_few(schedule, spatial, innermost, summed[0]):
            _sum_few(schedule, block, summed[0], innermost)
            return
        outer = [loop for loop in spatial if loop is not innermost]
        schedule.reorder(*outer, *summed, innermost)
        schedule.decompose_reduction(block, summed[0])
        return
    schedule.reorder(*spatial, *summed)
    sum_loop = schedule.fuse(*summed)
    extent = int(schedule.get(sum_loop).extent)
    if extent % _PARTIAL_SUMS or extent == _PARTIAL_SUMS:
        schedule.decompose_reduction(block, sum_loop)
        return
    _, lane = schedule.split(sum_loop, [None, _PARTIAL_SUMS])
    partial = schedule.rfactor(lane, factor_axis=len(spatial))
    *_, steps, lane = schedule.get_loops(partial)
    if len(summed) == 1:  # TVM refuses fused axes here; LLVM finds the four lanes by itself
        schedule.vectorize(lane)
    schedule.decompose_reduction(partial, steps)


def _are_few(
    schedule: s_tir.Schedule, spatial: Sequence[LoopRV], innermost: LoopRV, summed: LoopRV
) -> bool:
    """Whether sums are so few that every addition would wait for the one before."""
    sums, lanes, terms = (
        prod(int(schedule.get(loop).extent) for loop in loops)
        for loops in (spatial, [innermost], [summed])
    )
    whole = lanes % _LANES[-1] == 0 and terms % _PARTIAL_SUMS == 0
    return sums == lanes <= _FEW_SUMS and whole and terms > _PARTIAL_SUMS


def _sum_few(schedule: s_tir.Schedule, block: SBlockRV, summed: LoopRV, innermost: LoopRV) -> None:
    """Go through partial sums that all stay in registers."""
    schedule.reorder(summed, innermost)
    _, part = schedule.split(summed, [None, _PARTIAL_SUMS])
    partial = schedule.rfactor(part, factor_axis=0)
    *_, steps, part, lanes = schedule.get_loops(partial)
    schedule.unroll(part)
    outer, inner = schedule.split(lanes, [None, _LANES[-1]])
    schedule.unroll(outer)
    schedule.vectorize(inner)
    schedule.decompose_reduction(partial, steps)


def _contiguous_axis(schedule: s_tir.Schedule, block: SBlockRV) -> int | None:
    """The axis that indexes the last dimension of the largest tensor read."""
    body = schedule.get(block)
    largest = max(body.reads, key=lambda region: _elements(region.source), default=None)
    if largest is None:
        return None
    index = largest.region[-1].min
    return next((i for i, axis in enumerate(body.iter_vars) if axis.var.same_as(index)), None)


def _elements(buffer: tirx.Var) -> int:
    count = 1
    for dimension in buffer.ty.shape:
        count *= int(dimension)
    return count
