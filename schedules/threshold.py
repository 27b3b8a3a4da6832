"""Threshold and pack: compares become bits.

On aarch64 the nest becomes one call of a microkernel (see microkernels.threshold) where rows, or
several of them as one, are whole steps of it. Elsewhere eight compares become one byte. The
intrinsic compares eight channels, keeps one bit of each lane where the comparison holds, and
adds the lanes: they share no bit, so the sum is their union.
"""

from functools import cache
from typing import Any

import numpy as np
from tvm import s_tir, tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.intrinsics import sum_of_distinct_bits
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.packing import CHANNELS
from bicompile.workloads import GREATER, GROUPS, bit

_LANES = (16, 8)


def packed_by_bytes(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel, or tensorize bytes.

    Where channels do not fill whole bytes the nest stays as it is. A byte a channel is no packing:
    sixteen channels are compared at once.
    """
    joined = _joined_rows(function) if arch == "aarch64" else None
    if joined is not None:
        return _called(function, joined)
    schedule = s_tir.Schedule(function)
    pack(schedule, "pack", function, greater=bool(function.attrs[GREATER]))
    return schedule


def _joined_rows(function: tirx.PrimFunc) -> int | None:
    """How many rows the microkernel takes as one; None where it cannot take the nest."""
    rows, channels = (int(dim) for dim in function.params[0].ty.shape)
    if channels // int(function.attrs[GROUPS]) % 8:
        return None
    return next((n for n in (1, 2, 4) if rows % n == 0 and n * channels % CHANNELS == 0), None)


def _called(function: tirx.PrimFunc, joined: int) -> Kernel:
    x = function.params[0].ty
    rows, channels = (int(dim) for dim in x.shape)
    uniform = int(function.params[1].ty.shape[0]) == 1
    shape = microkernels.Packer(
        rows // joined,
        channels * joined,
        bool(function.attrs[GREATER]),
        str(x.dtype),
        uniform,
    )
    layouts: dict[int, Layout] = {}
    if joined > 1 and not uniform:
        layouts[1] = lambda thresholds: np.tile(thresholds, joined)
    body = call(function, shape.name, [*function.params, shape.rows, shape.channels])
    return Kernel(body, {shape.name: microkernels.pack(shape)}, layouts)


def pack(schedule: s_tir.Schedule, name: str, function: tirx.PrimFunc, *, greater: bool) -> None:
    """Schedule the block `name` that compares and packs rows of the nest's first operand's kind.

    The second operand's size says whether there is a threshold per channel or one.
    """
    x = function.params[0].ty
    groups = int(function.attrs[GROUPS])
    channels = int(x.shape[1]) // groups
    block = schedule.get_sblock(name, func_name="main")
    row, group, byte, channel = schedule.get_loops(block)
    if channels % 8 == 0:
        uniform = int(function.params[1].ty.shape[0]) == 1
        pack_bytes(schedule, block, greater=greater, dtype=str(x.dtype), uniform=uniform)
    elif channels == 1:
        lanes = next((lanes for lanes in _LANES if groups % lanes == 0), 1)
        outer, inner = schedule.split(group, [None, lanes], preserve_unit_iters=True)
        schedule.reorder(outer, row, byte, channel, inner)
        if lanes > 1:
            schedule.vectorize(inner)
        schedule.decompose_reduction(block, channel)


def pack_bytes(
    schedule: s_tir.Schedule, block: Any, *, greater: bool, dtype: str, uniform: bool = False
) -> None:
    """Tensorize the innermost loop of a block, over the eight channels of a byte."""
    channel = schedule.get_loops(block)[-1]
    schedule.decompose_reduction(block, channel)
    schedule.tensorize(channel, _pack_eight(greater=greater, dtype=dtype, uniform=uniform))


@cache
def _pack_eight(*, greater: bool, dtype: str, uniform: bool) -> str:
    """Register the intrinsic for one direction, type and kind of threshold; returns its name."""
    name = f"bicompile.pack_eight_{dtype}_{'ge' if greater else 'le'}{'_uniform' * uniform}"
    made = (make(greater, dtype, uniform) for make in (_meaning, _instructions))
    TensorIntrin.register(name, *made)
    return name


def _meaning(greater: bool, dtype: str, uniform: bool) -> tirx.PrimFunc:
    numbers = 1 if uniform else 8

    @T.prim_func(s_tir=True)
    def meaning(x: T.handle, theta: T.handle, bits: T.handle):
        X = T.match_buffer(x, (8,), dtype, offset_factor=1)
        THETA = T.match_buffer(theta, (numbers,), dtype, offset_factor=1)
        BITS = T.match_buffer(bits, (1,), "uint8", offset_factor=1)
        with T.sblock("root"):
            T.reads(BITS[0], X[0:8], THETA[0:numbers])
            T.writes(BITS[0])
            for c in range(8):
                with T.sblock("pack"):
                    vc = T.axis.reduce(8, c)
                    BITS[0] = BITS[0] | bit(X[vc], THETA[0 if uniform else vc], vc, greater=greater)

    return meaning


def _instructions(greater: bool, dtype: str, uniform: bool) -> tirx.PrimFunc:
    numbers = 1 if uniform else 8

    @T.prim_func(s_tir=True)
    def instructions(x: T.handle, theta: T.handle, bits: T.handle):
        X = T.match_buffer(x, (8,), dtype, offset_factor=1)
        THETA = T.match_buffer(theta, (numbers,), dtype, offset_factor=1)
        BITS = T.match_buffer(bits, (1,), "uint8", offset_factor=1)
        with T.sblock("root"):
            T.reads(BITS[0], X[0:8], THETA[0:numbers])
            T.writes(BITS[0])
            thresholds = T.meta_var(T.broadcast(THETA[0], 8) if uniform else THETA[T.ramp(0, 1, 8)])
            BITS[0] = BITS[0] | sum_of_distinct_bits(
                T.Select(
                    X[T.ramp(0, 1, 8)] >= thresholds
                    if greater
                    else X[T.ramp(0, 1, 8)] <= thresholds,
                    T.shift_left(
                        T.broadcast(T.uint8(1), 8), T.cast(T.ramp(T.int32(0), 1, 8), "uint8x8")
                    ),
                    T.broadcast(T.uint8(0), 8),
                )
            )

    return instructions
