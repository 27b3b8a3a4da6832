"""A depthwise layer of two planes: on aarch64 one call of microkernels.dual_depthwise.

Elsewhere, and where all frames of a channel do not fit the registers, it is a chain of float nests
like any other.
"""

from tvm import s_tir, tirx

from bicompile.dual_workloads import PADS, RESIDUAL, SAME
from bicompile.program import Layout
from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.dual_depthwise import lay_out_taps, lay_out_thresholds
from bicompile.workloads import GREATER


def convolved(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call the microkernel where there is one, else inline what can be."""
    x, thresholds, multiplier, _, taps, *_ = function.params
    frames, channels = (int(dim) for dim in x.ty.shape)
    before, after = (int(pad) for pad in function.attrs[PADS])
    first, second = (bool(greater) for greater in function.attrs[GREATER])
    shape = microkernels.Depthwise(
        frames,
        channels,
        int(taps.ty.shape[0]),
        (before, after),
        (first, second),
        bool(function.attrs[RESIDUAL]),
        bool(function.attrs[SAME]),
        uniform=int(thresholds.ty.shape[1]) == 1,
        one_multiplier=int(multiplier.ty.shape[0]) == 1,
    )
    if arch != "aarch64" or not shape.fits():
        return inlined(function, arch)
    layouts: dict[int, Layout] = {
        1: lambda rows: lay_out_thresholds(rows.reshape(3, -1)[: shape.thresholds]),
        4: lambda constant: lay_out_taps(constant.reshape(shape.taps, channels)),
    }
    assembly = {shape.name: microkernels.convolve_depthwise(shape)}
    return Kernel(call(function, shape.name, function.params), assembly, layouts)
