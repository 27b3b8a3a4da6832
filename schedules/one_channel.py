"""A float convolution of one channel: on aarch64 one call of microkernels.one_channel.

Elsewhere a few positions of a line are summed at once, all taps unrolled: vectors of outputs, whose
weights lie side by side, each times one number of the image.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray
from tvm import s_tir, tirx

from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.one_channel import lay_out
from bicompile.workloads import WINDOW

_LANES = 8
_SUMS = 8
"""Vectors of sums that stay in registers, beside the weights of a tap."""

_MOST_TAPS = 64


def heard(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call the microkernel where there is one, else sum in vectors of outputs."""
    x, weights, bias, slope, y = function.params
    height, width, out_height, out_width, outputs = (int(dim) for dim in (*x.ty.shape, *y.ty.shape))
    kernel = (int(weights.ty.shape[1]), int(weights.ty.shape[2]))
    stride, down, top, left = (int(number) for number in function.attrs[WINDOW])
    shape = microkernels.OneChannel(
        (height, width), (out_height, out_width), outputs, kernel, stride, (top, left)
    )
    if arch != "aarch64" and outputs % _LANES == 0 and prod(kernel) <= _MOST_TAPS:
        return _in_vectors(function)
    if arch != "aarch64" or stride != down or not shape.fits():
        return inlined(function, arch)
    frame = tirx.decl_buffer(shape.frame, "float32", "frame")
    body = call(function, shape.name, [x, weights, bias, slope, y, frame], scratch=[frame])
    layouts = {1: lambda constant: lay_out(constant.reshape(outputs, *kernel))}
    return Kernel(body, {shape.name: microkernels.convolve_one_channel(shape)}, layouts)


def _in_vectors(function: tirx.PrimFunc) -> Kernel:
    schedule = s_tir.Schedule(function)
    total, result = (schedule.get_sblock(name, func_name="main") for name in ("total", "y"))
    schedule.transform_layout(total, ("read", 1), lambda o, i, j: (i, j, o))
    columns, outputs = (int(dim) for dim in function.params[-1].ty.shape[1:])
    vectors = next(n for n in range(_SUMS, 0, -1) if outputs // _LANES % n == 0)
    positions = next(n for n in range(_SUMS // vectors, 0, -1) if columns % n == 0)
    line, column, output = schedule.get_loops(result)
    column, position = schedule.split(column, [None, positions])
    block, vector, lane = schedule.split(output, [None, vectors, _LANES])
    schedule.reorder(line, column, block, position, vector, lane)
    schedule.compute_at(total, block, preserve_unit_loops=True)
    schedule.set_scope(total, 0, "local")
    *_, summed_position, summed_output, i, j = schedule.get_loops(total)
    summed_vector, summed_lane = schedule.split(summed_output, [None, _LANES])
    schedule.reorder(i, j, summed_position, summed_vector, summed_lane)
    for loop in (i, j, summed_position, summed_vector, position, vector):
        schedule.unroll(loop)
    for loop in (lane, summed_lane):
        schedule.vectorize(loop)
    schedule.decompose_reduction(total, i)
    return Kernel(schedule.mod["main"], layouts={1: _outputs_last})


def _outputs_last(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O, kh, kw) → (kh, kw, O)."""
    return np.ascontiguousarray(weights.transpose(1, 2, 0))
