"""The binary ops as naive TIR loop nests: what a kernel computes, before any schedule.

Buffers are row-major. A bit tensor has eight channels to a byte, the lowest in the lowest bit.
Schedules find a nest by its attribute `bicompile.kind`.
"""

from collections.abc import Sequence
from typing import Any

from tvm import s_tir, te, tirx
from tvm.script import tirx as T

KIND = "bicompile.kind"
GREATER = "bicompile.greater"
GROUPS = "bicompile.groups"
USED_BYTES = "bicompile.used_bytes"
WINDOW = "bicompile.window"
KERNEL = "bicompile.kernel"
OUTPUT = "bicompile.output"
IMAGE = "bicompile.image"
OPAQUE = 8  # TVM's op pattern that keeps FuseOps from merging a nest with its neighbours


def threshold(
    rows: int,
    channels: int,
    *,
    greater: bool,
    groups: int = 1,
    uniform: bool = False,
    dtype: str = "float32",
) -> tirx.PrimFunc:
    """Compare and pack: (rows, G·C) and (G·C,) of float32 or int32 → (rows, G·bytes) bits.

    A `uniform` threshold is one for all channels, (1,).

    bits[i, c] = x[i, c] ≥ theta[c], or ≤ without `greater`; the bits of every group begin at a
    byte, and those after its last channel are clear.
    """
    group_bytes, lanes = -(-channels // 8), min(channels, 8)
    thresholds = 1 if uniform else groups * channels

    @T.prim_func(s_tir=True, private=True)
    def nest(
        x: T.Buffer((rows, groups * channels), dtype),
        theta: T.Buffer((thresholds,), dtype),
        bits: T.Buffer((rows, groups * group_bytes), "uint8"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "threshold"})
        T.func_attr({GREATER: greater, GROUPS: groups})
        for i, g, b, c in T.grid(rows, groups, group_bytes, lanes):
            with T.sblock("pack"):
                vg = T.axis.spatial(groups, g) if groups > 1 else T.meta_var(0)
                vi, vb, vc = T.axis.remap("SSR", [i, b, c])
                with T.init():
                    bits[vi, vg * group_bytes + vb] = T.uint8(0)
                bits[vi, vg * group_bytes + vb] = bits[vi, vg * group_bytes + vb] | (
                    bit(
                        x[vi, vg * channels + vb * 8 + vc],
                        theta[0 if uniform else vg * channels + vb * 8 + vc],
                        vc,
                        greater=greater,
                    )
                    if channels % lanes == 0
                    else T.if_then_else(
                        vb * 8 + vc < channels,
                        bit(
                            x[vi, vg * channels + vb * 8 + vc],
                            theta[0 if uniform else vg * channels + vb * 8 + vc],
                            vc,
                            greater=greater,
                        ),
                        T.uint8(0),
                    )
                )

    return nest


def bit(x: Any, theta: Any, position: Any, *, greater: bool) -> Any:
    """1 << position as uint8 where x ≥ theta, or x ≤ theta without `greater`; else 0."""
    holds = x >= theta if greater else x <= theta
    return T.Select(holds, T.shift_left(T.uint8(1), T.cast(position, "uint8")), T.uint8(0))


def patches(
    image: Sequence[int],
    kernel: Sequence[int],
    output: Sequence[int],
    *,
    groups: int = 1,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    row_bytes: int,
) -> tirx.PrimFunc:
    """Lay out what each output position sees as a row: (N·H, W·B) bits → (G·N·H'·W', row_bytes).

    `image` is (N, H, W, B); a pixel's B bytes are those of G groups in order. Row g·N·H'·W' + p
    holds the kh·kw pixels of position p, B / G bytes each; what lies outside the image, and the
    row's end, is clear. `pads` begins with top and left.
    """
    batch, height, width, pixel_bytes = image
    kh, kw = kernel
    out_height, out_width = output
    (sh, sw), (top, left), (dh, dw) = strides, pads[:2], dilations
    group_bytes, positions = pixel_bytes // groups, batch * out_height * out_width
    # The frame holds what every patch sees; rows and columns that none sees are left out.
    frame_height = (out_height - 1) * sh + (kh - 1) * dh + 1
    frame_width = (out_width - 1) * sw + (kw - 1) * dw + 1
    seen_height = max(0, min(height, frame_height - top))
    seen_width = max(0, min(width, frame_width - left))

    @T.prim_func(s_tir=True, private=True)
    def nest(
        bits: T.Buffer((batch * height, width * pixel_bytes), "uint8"),
        rows: T.Buffer((groups * positions, row_bytes), "uint8"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "patches"})
        T.func_attr({IMAGE: [*image], KERNEL: [*kernel], OUTPUT: [*output]})
        T.func_attr({WINDOW: [*strides, *pads[:2], *dilations]})
        frame = T.sblock_alloc_buffer((batch, frame_height, frame_width * pixel_bytes), "uint8")
        for n, y, b in T.grid(batch, frame_height, frame_width * pixel_bytes):
            with T.sblock("clear_frame"):
                vn, vy, vb = T.axis.remap("SSS", [n, y, b])
                frame[vn, vy, vb] = T.uint8(0)
        for n, y, b in T.grid(batch, seen_height, seen_width * pixel_bytes):
            with T.sblock("fill_frame"):
                vn, vy, vb = T.axis.remap("SSS", [n, y, b])
                frame[vn, vy + top, vb + left * pixel_bytes] = bits[vn * height + vy, vb]
        for g, n, y, x, i, j, b in T.grid(
            groups, batch, out_height, out_width, kh, kw, group_bytes
        ):
            with T.sblock("copy"):
                vg, vn, vy, vx, vi, vj, vb = T.axis.remap("SSSSSSS", [g, n, y, x, i, j, b])
                rows[
                    ((vg * batch + vn) * out_height + vy) * out_width + vx,
                    (vi * kw + vj) * group_bytes + vb,
                ] = frame[
                    vn,
                    vy * sh + vi * dh,
                    (vx * sw + vj * dw) * pixel_bytes + vg * group_bytes + vb,
                ]
        for p, b in T.grid(groups * positions, row_bytes - kh * kw * group_bytes):
            with T.sblock("clear_end"):
                vp, vb = T.axis.remap("SS", [p, b])
                rows[vp, kh * kw * group_bytes + vb] = T.uint8(0)

    return nest


def popcount_gemm(
    m: int, n: int, row_bytes: int, *, used_bytes: int | None = None
) -> tirx.PrimFunc:
    """Count differing bits: (M, row_bytes) bits, (N, row_bytes) bits → (M, N) int32.

    Bytes of a row after `used_bytes` are clear on both sides, so that they need not be counted.
    """
    used = row_bytes if used_bytes is None else used_bytes

    @T.prim_func(s_tir=True, private=True)
    def nest(
        a: T.Buffer((m, row_bytes), "uint8"),
        w: T.Buffer((n, row_bytes), "uint8"),
        c: T.Buffer((m, n), "int32"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "popcount_gemm"})
        T.func_attr({USED_BYTES: used})
        for i, j, k in T.grid(m, n, row_bytes):
            with T.sblock("count"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    c[vi, vj] = 0
                c[vi, vj] = c[vi, vj] + T.cast(T.popcount(a[vi, vk] ^ w[vj, vk]), "int32")

    return nest


def popcount_conv(patches: tirx.PrimFunc, n: int, *, used_bytes: int) -> tirx.PrimFunc:
    """Count differing bits of a convolution: an image's bits, (N, row_bytes) bits → (M, N) int32.

    `patches` lays out what each of M positions sees as rows; they meet the weights as in a popcount
    GEMM. A schedule need not lay them out.
    """
    bits, rows = rows_of(patches)
    m, row_bytes = rows.shape
    weights = te.placeholder((n, row_bytes), "uint8", "weights")
    k = te.reduce_axis((0, row_bytes), "k")
    count = te.compute((m, n), lambda i, j: differing(rows[i, k], weights[j, k], k), "count")
    return conv_nest(te.create_prim_func([bits, weights, count]), patches, used_bytes)


def rows_of(patches: tirx.PrimFunc) -> tuple[te.Tensor, te.Tensor]:
    """The operand of a nest of patches, and the rows that it makes, as tensors."""
    bits = te.placeholder(patches.params[0].ty.shape, "uint8", "bits")
    return bits, te.extern_primfunc([bits], patches)


def differing(a: Any, w: Any, k: Any) -> Any:
    """The differing bits of two bytes, summed along k."""
    return te.sum(tirx.popcount(a ^ w).astype("int32"), axis=k)


def conv_nest(nest: tirx.PrimFunc, patches: tirx.PrimFunc, used_bytes: int) -> tirx.PrimFunc:
    """A nest on rows_of(patches), all in one block, with the attributes schedules know it by."""
    root = nest.body.block
    first, *others = root.body
    inner = first.block.body.block
    allocated = [*inner.alloc_buffers, *root.alloc_buffers]
    body = tirx.SeqStmt([*inner.body, *others])
    whole = s_tir.SBlock([], [], [], root.name_hint, body, None, allocated)
    realized = s_tir.SBlockRealize([], True, whole)
    flat = tirx.PrimFunc(nest.params, realized, nest.ret_type, nest.attrs)
    attributes = {key: patches.attrs[key] for key in (IMAGE, KERNEL, OUTPUT, WINDOW)}
    attributes |= {KIND: "popcount_conv", "op_pattern": OPAQUE, USED_BYTES: used_bytes}
    for key, value in attributes.items():
        flat = flat.with_attr(key, value)
    return flat.without_attr("global_symbol")


def grouped_popcount_gemm(groups: int, m: int, n: int, row_bytes: int) -> tirx.PrimFunc:
    """A popcount GEMM for every group: (G·M, row_bytes) bits, (G·N, row_bytes) → (M, G·N) int32."""

    @T.prim_func(s_tir=True, private=True)
    def nest(
        a: T.Buffer((groups * m, row_bytes), "uint8"),
        w: T.Buffer((groups * n, row_bytes), "uint8"),
        c: T.Buffer((m, groups * n), "int32"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "grouped_popcount_gemm"})
        for g, i, j, k in T.grid(groups, m, n, row_bytes):
            with T.sblock("count"):
                vg, vi, vj, vk = T.axis.remap("SSSR", [g, i, j, k])
                with T.init():
                    c[vi, vg * n + vj] = 0
                c[vi, vg * n + vj] = c[vi, vg * n + vj] + T.cast(
                    T.popcount(a[vg * m + vi, vk] ^ w[vg * n + vj, vk]), "int32"
                )

    return nest


def depthwise(
    image: Sequence[int],
    kernel: Sequence[int],
    output: Sequence[int],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> tirx.PrimFunc:
    """Sum ±1 products of every channel: (N, H, W, C) bits, (kh, kw, O) → (N, H', W', O) int32.

    A channel is a byte, 0 or 1. `output` is (H', W', O); output o sees channel o // (O / C). What
    lies outside the image adds nothing. `pads` begins with top and left. kh·kw < 2^15.
    """
    batch, height, width, channels = image
    kh, kw = kernel
    out_height, out_width, outputs = output
    (sh, sw), (top, left), (dh, dw) = strides, pads[:2], dilations
    each = outputs // channels
    narrow = "int8" if kh * kw < 128 else "int16"

    @T.prim_func(s_tir=True, private=True)
    def nest(
        bits: T.Buffer((batch, height, width, channels), "uint8"),
        taps: T.Buffer((kh, kw, outputs), "uint8"),
        sums: T.Buffer((batch, out_height, out_width, outputs), "int32"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE, KIND: "depthwise"})
        T.func_attr({WINDOW: [*strides, *pads[:2], *dilations]})
        counts = T.sblock_alloc_buffer((batch, out_height, out_width, outputs), narrow)
        for n, y, x, o, i, j in T.grid(batch, out_height, out_width, outputs, kh, kw):
            with T.sblock("count"):
                vn, vy, vx, vo, vi, vj = T.axis.remap("SSSSRR", [n, y, x, o, i, j])
                with T.init():
                    counts[vn, vy, vx, vo] = T.cast(0, narrow)
                row = T.meta_var(vy * sh + vi * dh - top)
                column = T.meta_var(vx * sw + vj * dw - left)
                differs = T.meta_var(bits[vn, row, column, vo // each] ^ taps[vi, vj, vo])
                counts[vn, vy, vx, vo] = counts[vn, vy, vx, vo] + T.if_then_else(
                    T.And(_within(row, height), _within(column, width)),
                    T.cast(differs, narrow),
                    T.cast(0, narrow),
                )
        for n, y, x, o in T.grid(batch, out_height, out_width, outputs):
            with T.sblock("sum"):
                vn, vy, vx, vo = T.axis.remap("SSSS", [n, y, x, o])
                rows = T.meta_var(_inside(vy * sh - top, dh, kh, height))
                columns = T.meta_var(_inside(vx * sw - left, dw, kw, width))
                sums[vn, vy, vx, vo] = T.cast(
                    T.cast(rows * columns, narrow)
                    - counts[vn, vy, vx, vo]
                    - counts[vn, vy, vx, vo],
                    "int32",
                )

    return nest


def _within(at: Any, size: int) -> Any:
    return T.And(at >= 0, at < size)


def _inside(first: Any, dilation: int, taps: int, size: int) -> Any:
    """How many taps of one axis lie inside the image."""
    return sum(T.Select(_within(first + i * dilation, size), 1, 0) for i in range(taps))


def quantized_linear(rows: int, terms: int, outputs: int) -> tirx.PrimFunc:
    """(x·weights)·scale + bias: (rows, K) float32, (K, N) int8, two (N,) float32 → (rows, N)."""
    x = te.placeholder((rows, terms), "float32", "x")
    weights = te.placeholder((terms, outputs), "int8", "weights")
    scale, bias = (te.placeholder((outputs,), "float32", name) for name in ("scale", "bias"))
    k = te.reduce_axis((0, terms), "k")
    product = te.compute(
        (rows, outputs),
        lambda i, j: te.sum(x[i, k] * weights[k, j].astype("float32"), k),
        "product",
    )
    y = te.compute((rows, outputs), lambda i, j: product[i, j] * scale[j] + bias[j], "y")
    nest = te.create_prim_func([x, weights, scale, bias, y]).without_attr("global_symbol")
    return nest.with_attr("op_pattern", OPAQUE)
