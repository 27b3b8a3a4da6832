"""Float layers as naive TIR loop nests: a product or a convolution with its epilogue.

As in workloads: buffers are row-major, channels last, and schedules find a nest by its attribute
`bicompile.kind`. Operands are told apart by their names.
"""

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.script import tirx as T

from bicompile.workloads import KIND, OPAQUE, WINDOW

BEND = "bicompile.bend"
"""What follows the bias: "" for nothing, "relu" for max(y, 0), "prelu" for max(y, slope·y)."""


def float_layer(
    image: tuple[int, int, int],
    kernel: tuple[int, int],
    output: tuple[int, int, int],
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    depthwise: bool = False,
    bend: str = "",
    residual: bool = False,
) -> tirx.PrimFunc:
    """A convolution and what follows: (H, W, C) float32 → (H', W', O) float32.

    No padding: every window lies inside the image. A dense layer is a window of 1x1. Weights are
    (kh, kw, C, O); where the layer is `depthwise`, with O = C, they are (kh, kw, 1, O). Then come
    + bias (O,), what `bend` says (see BEND), and + residual (H', W', O). Operands in order: x,
    weights, bias, slope (1,), at most 1, with "prelu" alone, residual where there is one.
    """
    rows, columns, outputs = output
    channels = 1 if depthwise else image[2]
    x = te.placeholder(image, "float32", "x")
    weights = te.placeholder((*kernel, channels, outputs), "float32", "weights")
    bias = te.placeholder((outputs,), "float32", "bias")
    slope = [te.placeholder((1,), "float32", "slope")] if bend == "prelu" else []
    added = [te.placeholder(output, "float32", "residual")] if residual else []
    sizes = {"i": kernel[0], "j": kernel[1], "c": channels}
    if depthwise:
        del sizes["c"]
    elif kernel == (1, 1):
        sizes = {"c": channels}  # schedules know the sums of a plain product
    axes = {name: te.reduce_axis((0, size), name) for name, size in sizes.items()}

    def product(row: Any, column: Any, o: Any) -> Any:
        i, j, c = (axes.get(name, 0) for name in "ijc")
        at = row * strides[0] + i * dilations[0], column * strides[1] + j * dilations[1]
        channel = o if depthwise else c
        return te.sum(x[*at, channel] * weights[i, j, c, o], axis=list(axes.values()))

    total = te.compute(output, product, "total")

    def result(row: Any, column: Any, o: Any) -> Any:
        value = total[row, column, o] + bias[o]
        if bend == "relu":
            value = tirx.max(value, tirx.const(0, "float32"))
        for below in slope:
            value = tirx.max(value, value * below[0])
        for other in added:
            value = value + other[row, column, o]
        return value

    y = te.compute((rows, columns, outputs), result, "y")
    nest = te.create_prim_func([x, weights, bias, *slope, *added, y])
    kind = "float_depthwise" if depthwise else "float_layer"
    attributes = {KIND: kind, "op_pattern": OPAQUE, BEND: bend}
    attributes |= {WINDOW: [*strides, *dilations]}
    for key, value in attributes.items():
        nest = nest.with_attr(key, value)
    return nest


def frame(image: tuple[int, int, int], pads: Sequence[int]) -> tirx.PrimFunc:
    """Zeros around an image: (H, W, C) float32 → (top + H + bottom, left + W + right, C) float32.

    `pads` are top, left, bottom, right.
    """
    height, width, channels = image
    top, left, bottom, right = pads
    shape = (top + height + bottom, (left + width + right) * channels)

    @T.prim_func(s_tir=True, private=True)
    def nest(
        x: T.Buffer((height, width * channels), "float32"),
        framed: T.Buffer(shape, "float32"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "frame"})
        for i, j in T.grid(*shape):
            with T.sblock("clear"):
                vi, vj = T.axis.remap("SS", [i, j])
                framed[vi, vj] = T.float32(0)
        for i, j in T.grid(height, width * channels):
            with T.sblock("fill"):
                vi, vj = T.axis.remap("SS", [i, j])
                framed[vi + top, vj + left * channels] = x[vi, vj]

    return nest
