"""Depthwise sums: a byte is a channel, so sixteen channels are summed at once.

The taps are unrolled into EOR and ADD of bytes; only what they leave is widened.
"""

from tvm import s_tir, tirx

_LANES = (16, 8)


def summed_in_lanes(function: tirx.PrimFunc, _arch: str) -> s_tir.Schedule:
    """Vectorize over channels where they fill a vector; the taps stay innermost, unrolled."""
    schedule = s_tir.Schedule(function)
    count = schedule.get_sblock("count", func_name="main")
    total = schedule.get_sblock("sum", func_name="main")
    *positions, outputs = schedule.get_loops(total)
    extent = int(schedule.get(outputs).extent)
    lanes = next((lanes for lanes in _LANES if extent % lanes == 0), 1)
    outer, inner = schedule.split(outputs, [None, lanes], preserve_unit_iters=True)
    schedule.reorder(outer, *positions)  # the taps of a few channels stay in registers
    schedule.compute_at(count, positions[-1], preserve_unit_loops=True)
    *_, channel, i, j = schedule.get_loops(count)
    schedule.reorder(i, j, channel)
    schedule.set_scope(count, 0, "local")
    if lanes > 1:
        schedule.vectorize(inner)
        schedule.vectorize(channel)
    schedule.unroll(i)
    schedule.unroll(j)
    schedule.decompose_reduction(count, i)
    return schedule
