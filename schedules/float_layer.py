"""Float layers: on aarch64 a product is one call of microkernels.float_gemm.

A depthwise layer is summed by vectors of channels, its taps unrolled; a frame is copied by whole
rows. Elsewhere a product is a chain of float nests like any other.
"""

from typing import cast

from tvm import s_tir, tirx

from bicompile.float_workloads import BEND
from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import inlined, vectorize
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.float_gemm import Bend, pad
from bicompile.workloads import WINDOW

_LANES = {"aarch64": (4,)}
"""Of a depthwise layer; two vectors of channels would need more registers than there are."""

_OTHER_LANES = (8, 4)


def multiplied(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call the microkernel where there is one, else inline what can be."""
    operands = {parameter.name: parameter for parameter in function.params[:-1]}
    result = function.params[-1]
    lines, positions, outputs = (int(dim) for dim in result.ty.shape)
    _, width, channels = (int(dim) for dim in operands["x"].ty.shape)
    kernel = [int(dim) for dim in operands["weights"].ty.shape[:2]]
    down, across, apart_down, apart = (int(number) for number in function.attrs[WINDOW])
    shape = microkernels.FloatGemm(
        lines=lines,
        positions=positions,
        outputs=outputs,
        segments=kernel[0],
        length=kernel[1] * channels,
        position_stride=across * channels,
        line_stride=down * width * channels,
        segment_stride=apart_down * width * channels,
        bend=cast(Bend, str(function.attrs[BEND])),
        residual="residual" in operands,
    )
    if arch != "aarch64" or (kernel[1] > 1 and apart > 1) or not shape.fits():
        return inlined(function, arch)
    absent = operands["x"]  # a pointer that nothing reads through
    names = ("x", "weights", "bias", "slope", "residual")
    arguments = [*(operands.get(name, absent) for name in names), result]
    layouts: dict[int, Layout] = {1: shape.lay_out, 2: pad}
    assembly = {shape.name: microkernels.multiply(shape)}
    return Kernel(call(function, shape.name, arguments), assembly, layouts)


def convolved(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule:
    """Vectorize over channels where they fill a vector; the taps are innermost, unrolled."""
    schedule = s_tir.Schedule(function)
    total = schedule.get_sblock("total", func_name="main")
    y = schedule.get_sblock("y", func_name="main")
    *positions, outputs = schedule.get_loops(y)
    several = _LANES.get(arch, _OTHER_LANES)
    lanes = next((n for n in several if int(schedule.get(outputs).extent) % n == 0), 1)
    outer, inner = schedule.split(outputs, [None, lanes], preserve_unit_iters=True)
    schedule.reorder(outer, *positions)  # the taps of a few channels stay in registers
    schedule.compute_at(total, positions[-1], preserve_unit_loops=True)
    *_, channel, i, j = schedule.get_loops(total)
    schedule.reorder(i, j, channel)
    schedule.set_scope(total, 0, "local")
    if lanes > 1:
        schedule.vectorize(inner)
        schedule.vectorize(channel)
    schedule.unroll(i)
    schedule.unroll(j)
    schedule.decompose_reduction(total, i)
    return schedule


def framed(function: tirx.PrimFunc, _arch: str) -> s_tir.Schedule:
    """Vectorize the rows."""
    schedule = s_tir.Schedule(function)
    for name in ("clear", "fill"):
        vectorize(schedule, schedule.get_sblock(name, func_name="main"))
    return schedule
