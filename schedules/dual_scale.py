"""Dual-scale binarization: two planes of bits and a mean, all from one tensor.

On aarch64 the nest becomes one call of a microkernel (see microkernels.dual_scale), where rows are
whole steps of it. A mean of everything may take several rows as one: then narrow ones are too.
Elsewhere both planes are packed by bytes, and what is left of x is stored once, then packed and
summed.
"""

from typing import TypeVar

import numpy as np
from tvm import s_tir, tirx

from bicompile.dual_workloads import MEAN, SAME
from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import order_sum, vectorize
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.packing import CHANNELS
from bicompile.schedules.threshold import pack
from bicompile.second_signs import moved, sides
from bicompile.workloads import GREATER, GROUPS

_MOST_JOINED = 8

_Found = TypeVar("_Found")


def binarized(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel where there is one, else pack plane after plane."""
    joined = _joined_rows(function) if arch == "aarch64" else None
    if joined is not None:
        return _called(function, joined)
    schedule = s_tir.Schedule(function)
    first, second = (bool(greater) for greater in function.attrs[GREATER])
    pack(schedule, "pack", function, greater=first)
    pack(schedule, "pack_rest", function, greater=second)
    order_sum(schedule, schedule.get_sblock("sum", func_name="main"))
    vectorize(schedule, schedule.get_sblock("rest", func_name="main"))
    return schedule


def _joined_rows(function: tirx.PrimFunc) -> int | None:
    """How many rows the microkernel takes as one; None where it cannot take the nest."""
    rows, channels = (int(dim) for dim in function.params[0].ty.shape)
    mean = str(function.attrs[MEAN])
    if int(function.attrs[GROUPS]) > 1 or mean == "channel":
        return None
    for joined in (_MOST_JOINED, 4, 2, 1) if mean == "all" and channels % 8 == 0 else (1,):
        if rows % joined == 0 and joined * channels % CHANNELS == 0:
            return joined
    return None


def _called(function: tirx.PrimFunc, joined: int) -> Kernel:
    rows, channels = (int(dim) for dim in function.params[0].ty.shape)
    first, second = (bool(greater) for greater in function.attrs[GREATER])
    shape = microkernels.Binarizer(
        rows // joined,
        channels * joined,
        (first, second),
        bool(function.attrs[SAME]),
        str(function.attrs[MEAN]) == "row",
        uniform=int(function.params[1].ty.shape[0]) == 1,
    )
    times = 1 if shape.uniform else joined
    layouts: dict[int, Layout] = {i: lambda constant: np.tile(constant, times) for i in (1, 2, 3)}
    if shape.same:
        # Each is stored once: of second thresholds that lie as their shifts nothing is read.
        layouts |= _read_from_x(shape.uniform, joined, greater=second)
    body = call(function, shape.name, [*function.params, *shape.numbers])
    return Kernel(body, {shape.name: microkernels.binarize(shape)}, layouts)


def _read_from_x(uniform: bool, joined: int, *, greater: bool) -> dict[int, Layout]:
    """How shifts and second thresholds lie that are the same."""
    if not uniform:
        return dict.fromkeys((2, 3), lambda s: np.tile(_found(moved(s, greater=greater)), joined))
    above, below = (lambda s, n=n: _found(sides(s, greater=greater))[n] for n in (0, 1))
    return {2: above, 3: below}


def _found(values: _Found | None) -> _Found:
    if values is None:
        raise ValueError("the nest says that its second thresholds can be read from x")
    return values
