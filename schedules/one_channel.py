"""A float convolution of one channel: on aarch64 one call of microkernels.one_channel."""

from tvm import s_tir, tirx

from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.one_channel import lay_out
from bicompile.workloads import WINDOW


def heard(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call the microkernel where there is one, else inline what can be."""
    x, weights, bias, slope, y = function.params
    height, width, out_height, out_width, outputs = (int(dim) for dim in (*x.ty.shape, *y.ty.shape))
    kernel = (int(weights.ty.shape[1]), int(weights.ty.shape[2]))
    stride, down, top, left = (int(number) for number in function.attrs[WINDOW])
    shape = microkernels.OneChannel(
        (height, width), (out_height, out_width), outputs, kernel, stride, (top, left)
    )
    if arch != "aarch64" or stride != down or not shape.fits():
        return inlined(function, arch)
    frame = tirx.decl_buffer(shape.frame, "float32", "frame")
    body = call(function, shape.name, [x, weights, bias, slope, y, frame], scratch=[frame])
    layouts = {1: lambda constant: lay_out(constant.reshape(outputs, *kernel))}
    return Kernel(body, {shape.name: microkernels.convolve_one_channel(shape)}, layouts)
