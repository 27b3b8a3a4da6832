"""Constants in fewer bytes, spread out: on aarch64 one microkernel for all lengths."""

from math import prod
from typing import cast

from tvm import s_tir, tirx

from bicompile.schedules import microkernels
from bicompile.schedules.called import call
from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.microkernels.spreading import NUMBERS
from bicompile.spread_workloads import FORM, Form


def spread_out(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call the microkernel where numbers fill its steps, else one loop over vectors."""
    result = function.params[-1]
    steps, rest = divmod(prod(int(dim) for dim in result.ty.shape), NUMBERS)
    if arch != "aarch64" or rest:
        return inlined(function, arch)
    numbers, *line = function.params[:-1]
    form = cast(Form, str(function.attrs[FORM]))
    shape = microkernels.Spread(form, str(numbers.ty.dtype))
    body = call(function, shape.name, [numbers, *(line or [numbers]), result, steps])
    return Kernel(body, {shape.name: microkernels.spread(shape)})
