"""Threshold and pack: eight compares become one byte.

The intrinsic compares eight channels, keeps one bit of each lane where the comparison holds, and
adds the lanes: they share no bit, so the sum is their union.
"""

from functools import cache

from tvm import s_tir, tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from bicompile.schedules.intrinsics import sum_of_distinct_bits
from bicompile.workloads import GREATER, GROUPS, bit

_LANES = (16, 8)


def packed_by_eight(function: tirx.PrimFunc, _arch: str) -> s_tir.Schedule:
    """Tensorize bytes; where channels do not fill whole bytes the nest stays as it is.

    A byte a channel is no packing: sixteen channels are compared at once.
    """
    schedule = s_tir.Schedule(function)
    pack(schedule, "pack", function, greater=bool(function.attrs[GREATER]))
    return schedule


def pack(schedule: s_tir.Schedule, name: str, function: tirx.PrimFunc, *, greater: bool) -> None:
    """Schedule the block `name` that compares and packs rows of the nest's first operand's kind."""
    x = function.params[0].ty
    groups = int(function.attrs[GROUPS])
    channels = int(x.shape[1]) // groups
    block = schedule.get_sblock(name, func_name="main")
    row, group, byte, channel = schedule.get_loops(block)
    if channels % 8 == 0:
        schedule.decompose_reduction(block, channel)
        schedule.tensorize(channel, _pack_eight(greater=greater, dtype=str(x.dtype)))
    elif channels == 1:
        lanes = next((lanes for lanes in _LANES if groups % lanes == 0), 1)
        outer, inner = schedule.split(group, [None, lanes], preserve_unit_iters=True)
        schedule.reorder(outer, row, byte, channel, inner)
        if lanes > 1:
            schedule.vectorize(inner)
        schedule.decompose_reduction(block, channel)


@cache
def _pack_eight(*, greater: bool, dtype: str) -> str:
    """Register the intrinsic for one direction and type; returns its name."""
    name = f"bicompile.pack_eight_{dtype}_{'ge' if greater else 'le'}"
    TensorIntrin.register(name, _meaning(greater, dtype), _instructions(greater, dtype))
    return name


def _meaning(greater: bool, dtype: str) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def meaning(x: T.handle, theta: T.handle, bits: T.handle):
        X = T.match_buffer(x, (8,), dtype, offset_factor=1)
        THETA = T.match_buffer(theta, (8,), dtype, offset_factor=1)
        BITS = T.match_buffer(bits, (1,), "uint8", offset_factor=1)
        with T.sblock("root"):
            T.reads(BITS[0], X[0:8], THETA[0:8])
            T.writes(BITS[0])
            for c in range(8):
                with T.sblock("pack"):
                    vc = T.axis.reduce(8, c)
                    BITS[0] = BITS[0] | bit(X[vc], THETA[vc], vc, greater=greater)

    return meaning


def _instructions(greater: bool, dtype: str) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def instructions(x: T.handle, theta: T.handle, bits: T.handle):
        X = T.match_buffer(x, (8,), dtype, offset_factor=1)
        THETA = T.match_buffer(theta, (8,), dtype, offset_factor=1)
        BITS = T.match_buffer(bits, (1,), "uint8", offset_factor=1)
        with T.sblock("root"):
            T.reads(BITS[0], X[0:8], THETA[0:8])
            T.writes(BITS[0])
            BITS[0] = BITS[0] | sum_of_distinct_bits(
                T.Select(
                    X[T.ramp(0, 1, 8)] >= THETA[T.ramp(0, 1, 8)]
                    if greater
                    else X[T.ramp(0, 1, 8)] <= THETA[T.ramp(0, 1, 8)],
                    T.shift_left(
                        T.broadcast(T.uint8(1), 8), T.cast(T.ramp(T.int32(0), 1, 8), "uint8x8")
                    ),
                    T.broadcast(T.uint8(0), 8),
                )
            )

    return instructions
