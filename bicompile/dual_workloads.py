"""Fused ops as naive TIR loop nests: dual-scale binarization, and a product with its epilogue.

As in workloads: buffers are row-major, bits eight channels to a byte, and schedules find a nest by
its attribute `bicompile.kind`. Operands are told apart by their names.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tvm import te, tirx
from tvm.script import tirx as T

from bicompile.workloads import (
    GREATER,
    GROUPS,
    KIND,
    OPAQUE,
    USED_BYTES,
    WINDOW,
    bit,
    conv_nest,
    differing,
    rows_of,
)

Mean = Literal["row", "all", "channel"]
"""What a mean takes in: the channels of a row, everything, or the rows of a channel."""

MEAN = "bicompile.mean"
SAME = "bicompile.same"
PLANES = "bicompile.planes"
PRODUCTS = "bicompile.products"


def dual_scale(
    rows: int,
    channels: int,
    *,
    groups: int = 1,
    greater: tuple[bool, bool],
    mean: Mean,
    same: bool = False,
    uniform: bool = False,
) -> tirx.PrimFunc:
    """Two planes of bits and a mean: (rows, G·C) float32, three (G·C,) → (2·rows, G·bytes), means.

    b1 = ±1 by x ≥ theta, rest = x − b1, planes = bits of x ≥ theta, then of rest ≥ theta2 (≤ where
    `greater` is false for that plane), packed as workloads.threshold does. Means are of
    |rest − shift|: (rows,), (1,) or (G·C,) float32. `same` says that theta2 always is shift, and
    that second_signs finds what x is compared with instead. With `uniform` theta, shift and theta2
    are (1,), for all channels.
    """
    group_bytes, lanes, width = -(-channels // 8), min(channels, 8), groups * channels
    means = {"row": rows, "all": 1, "channel": width}[mean]
    count = float(rows * width // means)
    whole = channels % lanes == 0
    numbers = 1 if uniform else width

    def of(channel: Any) -> Any:
        return 0 if uniform else channel

    @T.prim_func(s_tir=True, private=True)
    def nest(
        x: T.Buffer((rows, width), "float32"),
        theta: T.Buffer((numbers,), "float32"),
        shift: T.Buffer((numbers,), "float32"),
        theta2: T.Buffer((numbers,), "float32"),
        planes: T.Buffer((2 * rows, groups * group_bytes), "uint8"),
        scale: T.Buffer((means,), "float32"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "dual_scale"})
        T.func_attr({GREATER: list(map(int, greater)), GROUPS: groups, MEAN: mean, SAME: same})
        rest = T.sblock_alloc_buffer((rows, width), "float32")
        first = T.sblock_alloc_buffer((rows, groups * group_bytes), "uint8")
        second = T.sblock_alloc_buffer((rows, groups * group_bytes), "uint8")
        total = T.sblock_alloc_buffer((means,), "float32")
        for i, c in T.grid(rows, width):
            with T.sblock("rest"):
                vi, vc = T.axis.remap("SS", [i, c])
                rest[vi, vc] = x[vi, vc] - T.Select(
                    x[vi, vc] >= theta[of(vc)] if greater[0] else x[vi, vc] <= theta[of(vc)],
                    T.float32(1),
                    T.float32(-1),
                )
        for i, g, b, c in T.grid(rows, groups, group_bytes, lanes):
            with T.sblock("pack"):
                vg = T.axis.spatial(groups, g) if groups > 1 else T.meta_var(0)
                vi, vb, vc = T.axis.remap("SSR", [i, b, c])
                channel = T.meta_var(vg * channels + vb * 8 + vc)
                with T.init():
                    first[vi, vg * group_bytes + vb] = T.uint8(0)
                first[vi, vg * group_bytes + vb] = first[vi, vg * group_bytes + vb] | (
                    bit(x[vi, channel], theta[of(channel)], vc, greater=greater[0])
                    if whole
                    else T.if_then_else(
                        vb * 8 + vc < channels,
                        bit(x[vi, channel], theta[of(channel)], vc, greater=greater[0]),
                        T.uint8(0),
                    )
                )
        for i, g, b, c in T.grid(rows, groups, group_bytes, lanes):
            with T.sblock("pack_rest"):
                vg = T.axis.spatial(groups, g) if groups > 1 else T.meta_var(0)
                vi, vb, vc = T.axis.remap("SSR", [i, b, c])
                channel = T.meta_var(vg * channels + vb * 8 + vc)
                with T.init():
                    second[vi, vg * group_bytes + vb] = T.uint8(0)
                second[vi, vg * group_bytes + vb] = second[vi, vg * group_bytes + vb] | (
                    bit(rest[vi, channel], theta2[of(channel)], vc, greater=greater[1])
                    if whole
                    else T.if_then_else(
                        vb * 8 + vc < channels,
                        bit(rest[vi, channel], theta2[of(channel)], vc, greater=greater[1]),
                        T.uint8(0),
                    )
                )
        for i, b in T.grid(2 * rows, groups * group_bytes):
            with T.sblock("stack"):
                vi, vb = T.axis.remap("SS", [i, b])
                planes[vi, vb] = T.if_then_else(
                    vi < rows, first[T.min(vi, rows - 1), vb], second[T.max(vi - rows, 0), vb]
                )
        for k, j in T.grid(means, rows * width // means):
            with T.sblock("sum"):
                vk, vj = T.axis.remap("SR", [k, j])
                with T.init():
                    total[vk] = T.float32(0)
                row = T.meta_var(vk if mean == "row" else vj // width if mean == "all" else vj)
                column = T.meta_var(vj if mean == "row" else vj % width if mean == "all" else vk)
                total[vk] = total[vk] + T.abs(rest[row, column] - shift[of(column)])
        for k in range(means):
            with T.sblock("mean"):
                vk = T.axis.spatial(means, k)
                scale[vk] = total[vk] / T.float32(count)

    return nest


@dataclass(frozen=True)
class Steps:
    """What an epilogue does with b·w, in this order; a step that is not there is 0 or False.

    Attributes:
        scale: factors of the second plane, or of the only one: 1, or one for every row.
        multiplier: factors: 1, or one for every output.
        shift: rows of shifts: 1, or as many as there are results.
        slope: whether there is a PReLU; its one slope is at most 1.
        residual: whether a tensor like the results is added.
    """

    scale: int = 0
    multiplier: int = 0
    shift: int = 0
    slope: bool = False
    residual: bool = False


def popcount_epilogue(
    rows: int,
    n: int,
    row_bytes: int,
    *,
    used_bytes: int,
    planes: int,
    products: int | None,
    steps: Steps,
    patches: tirx.PrimFunc | None = None,
) -> tirx.PrimFunc:
    """Binary products and what follows: (planes·rows, row_bytes) bits, (N, row_bytes) → (rows, N).

    With p the differing bits of a row and an output's weights, a = products − 2·p, float32; of two
    planes a = a₁ + scale·a₂. Then a·multiplier + shift, max(a, slope·a), + residual, as far as
    `steps` has them. `products` of None are an operand, (rows, N) int32. Operands in order: rows,
    weights, products, scale, multiplier, shift, slope, residual. With `patches`, a nest that lays
    out the rows, its operand, the bits of an image, takes their place (see popcount_conv).

    Raises ValueError for products or shifts of every row of one plane: a tile has two such rows,
    and its kernel one pointer to what is told of a row.
    """
    if planes == 1 and (products is None or steps.shift > 1):
        raise ValueError("products and shifts of every row are for two planes")

    def operand(name: str, *shape: int, dtype: str = "float32") -> Any:
        return te.placeholder(shape, dtype, name)

    if patches is None:
        seen = a = operand("rows", planes * rows, row_bytes, dtype="uint8")
    else:
        seen, a = rows_of(patches)
    w = operand("weights", n, row_bytes, dtype="uint8")
    table = [] if products is not None else [operand("products", rows, n, dtype="int32")]
    scale = [operand("scale", steps.scale)] if steps.scale else []
    multiplier = [operand("multiplier", steps.multiplier)] if steps.multiplier else []
    shift = [operand("shift", steps.shift, n)] if steps.shift else []
    slope = [operand("slope", 1)] if steps.slope else []
    residual = [operand("residual", rows, n)] if steps.residual else []
    k = te.reduce_axis((0, row_bytes), "k")
    count = te.compute(
        (planes * rows, n),
        lambda i, j: differing(a[i, k], w[j, k], k),
        "count",
    )

    def result(i: Any, j: Any) -> Any:
        whole = table[0][i, j] if table else tirx.const(products, "int32")
        dots = [
            (whole - (count[i + p * rows, j] + count[i + p * rows, j])).astype("float32")
            for p in range(planes)
        ]
        if scale:
            dots[-1] = dots[-1] * scale[0][i if steps.scale > 1 else 0]
        total = dots[0] if planes == 1 else dots[0] + dots[1]
        for factor in multiplier:
            total = total * factor[j if steps.multiplier > 1 else 0]
        for added in shift:
            total = total + added[i if steps.shift > 1 else 0, j]
        for below in slope:
            total = tirx.max(total, total * below[0])
        for added in residual:
            total = total + added[i, j]
        return total

    y = te.compute((rows, n), result, "epilogue")
    operands = [seen, w, *table, *scale, *multiplier, *shift, *slope, *residual]
    nest = te.create_prim_func([*operands, y])
    attributes = {KIND: "popcount_epilogue", "op_pattern": OPAQUE, USED_BYTES: used_bytes}
    attributes |= {PLANES: planes} | ({} if products is None else {PRODUCTS: products})
    for key, value in attributes.items():
        nest = nest.with_attr(key, value)
    return nest if patches is None else conv_nest(nest, patches, used_bytes)


THRESHOLDS = ("theta", "move", "theta2")
"""What `thresholds` of dual_depthwise holds, row by row."""

PADS = "bicompile.pads"
RESIDUAL = "bicompile.residual"


def dual_depthwise(
    frames: int,
    channels: int,
    taps: int,
    *,
    pads: tuple[int, int],
    greater: tuple[bool, bool],
    residual: bool,
    thresholds: int,
    multipliers: int,
    same: bool = False,
) -> tirx.PrimFunc:
    """A depthwise layer of two planes: (F, C) → (F', C) float32, and its scales (C,).

    x is framed by `pads` rows of zeros and binarized as dual_scale does, with a scale for every
    channel; every plane is convolved along the rows with taps (k, C) of 0 and 1, which mean −1 and
    1; then come a₁ + scale·a₂, · multiplier, + shift, max(a, slope·a), and + x with `residual`.
    Operands: x, thresholds (3, C) or (3, 1) as THRESHOLDS says, multiplier (C,) or (1,), shift
    (C,), taps uint8, slope (1,), at most 1. `thresholds` and `multipliers` say how many there are:
    C, or 1 for all channels. `same` says that theta2 always is move.
    """
    framed, results = frames + sum(pads), frames + sum(pads) - taps + 1
    x = te.placeholder((frames, channels), "float32", "x")
    bounds = te.placeholder((len(THRESHOLDS), thresholds), "float32", "thresholds")
    multiplier = te.placeholder((multipliers,), "float32", "multiplier")
    shift = te.placeholder((channels,), "float32", "shift")
    weights = te.placeholder((taps, channels), "uint8", "taps")
    slope = te.placeholder((1,), "float32", "slope")
    of = {name: row for row, name in enumerate(THRESHOLDS)}
    one, minus = (tirx.const(sign, "float32") for sign in (1, -1))

    def sign(value: Any, theta: Any, up: bool) -> Any:
        return tirx.Select(value >= theta if up else value <= theta, one, minus)

    def frame(i: Any, c: Any) -> Any:
        row = tirx.max(tirx.min(i - pads[0], frames - 1), 0)
        inside = tirx.all(i >= pads[0], i < frames + pads[0])
        return tirx.if_then_else(inside, x[row, c], tirx.const(0, "float32"))

    def of_channel(name: str, c: Any) -> Any:
        return bounds[of[name], c if thresholds > 1 else 0]

    shape = (framed, channels)
    padded = te.compute(shape, frame, "padded")
    first = te.compute(
        shape, lambda i, c: sign(padded[i, c], of_channel("theta", c), greater[0]), "first"
    )
    rest = te.compute(shape, lambda i, c: padded[i, c] - first[i, c], "rest")
    second = te.compute(
        shape, lambda i, c: sign(rest[i, c], of_channel("theta2", c), greater[1]), "second"
    )
    f = te.reduce_axis((0, framed), "f")
    total = te.compute(
        (channels,),
        lambda c: te.sum(tirx.abs(rest[f, c] - of_channel("move", c)), axis=f),
        "total",
    )
    scale = te.compute((channels,), lambda c: total[c] / tirx.const(framed, "float32"), "scale")

    def dots(plane: Any, name: str) -> Any:
        k = te.reduce_axis((0, taps), "k")
        return te.compute(
            (results, channels),
            lambda i, c: te.sum(
                plane[i + k, c] * tirx.Select(weights[k, c] > tirx.const(0, "uint8"), one, minus),
                axis=k,
            ),
            name,
        )

    dot, dot2 = dots(first, "dot"), dots(second, "dot2")

    def result(i: Any, c: Any) -> Any:
        value = dot[i, c] + dot2[i, c] * scale[c]
        value = value * multiplier[c if multipliers > 1 else 0] + shift[c]
        value = tirx.max(value, value * slope[0])
        return value + x[i, c] if residual else value

    y = te.compute((results, channels), result, "y")
    nest = te.create_prim_func([x, bounds, multiplier, shift, weights, slope, y, scale])
    attributes = {KIND: "dual_depthwise", "op_pattern": OPAQUE, PADS: list(pads)}
    attributes |= {GREATER: list(map(int, greater)), RESIDUAL: residual, SAME: same}
    for key, value in attributes.items():
        nest = nest.with_attr(key, value)
    return nest


def one_channel(
    image: tuple[int, int],
    output: tuple[int, int],
    outputs: int,
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int],
    pads: tuple[int, int],
) -> tirx.PrimFunc:
    """A float convolution of one channel and PReLU: (H, W) float32 → (H', W', O) float32.

    Weights (O, kh, kw), bias (O,), and slope (1,), at most 1, are float32; `pads` are top and left,
    zeros, and `output` (H', W') says what there is on the other sides.
    """
    x = te.placeholder(image, "float32", "x")
    weights = te.placeholder((outputs, *kernel), "float32", "weights")
    bias = te.placeholder((outputs,), "float32", "bias")
    slope = te.placeholder((1,), "float32", "slope")
    seen = [(output[i] - 1) * strides[i] + kernel[i] for i in (0, 1)]

    def frame(i: Any, j: Any) -> Any:
        row, column = (
            tirx.max(tirx.min(at - pads[axis], image[axis] - 1), 0)
            for axis, at in enumerate((i, j))
        )
        inside = tirx.all(
            i >= pads[0], i < image[0] + pads[0], j >= pads[1], j < image[1] + pads[1]
        )
        return tirx.if_then_else(inside, x[row, column], tirx.const(0, "float32"))

    framed = te.compute(seen, frame, "framed")
    i, j = (te.reduce_axis((0, size), name) for size, name in zip(kernel, "ij", strict=True))
    total = te.compute(
        (*output, outputs),
        lambda r, c, o: te.sum(
            framed[r * strides[0] + i, c * strides[1] + j] * weights[o, i, j], axis=(i, j)
        ),
        "total",
    )

    def result(r: Any, c: Any, o: Any) -> Any:
        value = total[r, c, o] + bias[o]
        return tirx.max(value, value * slope[0])

    nest = te.create_prim_func(
        [x, weights, bias, slope, te.compute((*output, outputs), result, "y")]
    )
    attributes = {KIND: "one_channel", "op_pattern": OPAQUE, WINDOW: [*strides, *pads]}
    for key, value in attributes.items():
        nest = nest.with_attr(key, value)
    return nest
