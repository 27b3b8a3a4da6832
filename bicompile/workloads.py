"""The binary ops as naive TIR loop nests: what a kernel computes, before any schedule.

Buffers are row-major. A bit tensor has eight channels to a byte, the lowest in the lowest bit.
Schedules find a nest by its attribute `bicompile.kind`.
"""

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

KIND = "bicompile.kind"
GREATER = "bicompile.greater"
USED_BYTES = "bicompile.used_bytes"
_OPAQUE = 8  # TVM's op pattern that keeps FuseOps from merging a nest with its neighbours


def threshold(rows: int, channels: int, *, greater: bool) -> tirx.PrimFunc:
    """Compare and pack: (rows, channels) float32, (channels,) float32 → (rows, bytes) bits.

    bits[i, c] = x[i, c] ≥ theta[c], or ≤ without `greater`; bits after the last channel are clear.
    """
    row_bytes = -(-channels // 8)

    @T.prim_func(s_tir=True, private=True)
    def nest(
        x: T.Buffer((rows, channels), "float32"),
        theta: T.Buffer((channels,), "float32"),
        bits: T.Buffer((rows, row_bytes), "uint8"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": _OPAQUE, KIND: "threshold"})
        T.func_attr({GREATER: greater})
        for i, b, c in T.grid(rows, row_bytes, 8):
            with T.sblock("pack"):
                vi, vb, vc = T.axis.remap("SSR", [i, b, c])
                with T.init():
                    bits[vi, vb] = T.uint8(0)
                bits[vi, vb] = bits[vi, vb] | (
                    bit(x[vi, vb * 8 + vc], theta[vb * 8 + vc], vc, greater=greater)
                    if channels % 8 == 0
                    else T.if_then_else(
                        vb * 8 + vc < channels,
                        bit(x[vi, vb * 8 + vc], theta[vb * 8 + vc], vc, greater=greater),
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
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    row_bytes: int,
) -> tirx.PrimFunc:
    """Lay out what each output position sees as a row: (H, W, B) bits → (H'·W', row_bytes) bits.

    Row p holds the kh·kw pixels of position p, B bytes each; what lies outside the image, and the
    row's end, is clear. `pads` begins with top and left.
    """
    height, width, pixel_bytes = image
    kh, kw = kernel
    out_height, out_width = output
    (sh, sw), (top, left), (dh, dw) = strides, pads[:2], dilations
    # The frame holds what every patch sees; rows and columns that none sees are left out.
    frame_height = (out_height - 1) * sh + (kh - 1) * dh + 1
    frame_width = (out_width - 1) * sw + (kw - 1) * dw + 1
    seen_height = max(0, min(height, frame_height - top))
    seen_width = max(0, min(width, frame_width - left))

    @T.prim_func(s_tir=True, private=True)
    def nest(
        bits: T.Buffer((height, width * pixel_bytes), "uint8"),
        rows: T.Buffer((out_height * out_width, row_bytes), "uint8"),
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": _OPAQUE, KIND: "patches"})
        frame = T.sblock_alloc_buffer((frame_height, frame_width * pixel_bytes), "uint8")
        for y, b in T.grid(frame_height, frame_width * pixel_bytes):
            with T.sblock("clear_frame"):
                vy, vb = T.axis.remap("SS", [y, b])
                frame[vy, vb] = T.uint8(0)
        for y, b in T.grid(seen_height, seen_width * pixel_bytes):
            with T.sblock("fill_frame"):
                vy, vb = T.axis.remap("SS", [y, b])
                frame[vy + top, vb + left * pixel_bytes] = bits[vy, vb]
        for y, x, i, j, b in T.grid(out_height, out_width, kh, kw, pixel_bytes):
            with T.sblock("copy"):
                vy, vx, vi, vj, vb = T.axis.remap("SSSSS", [y, x, i, j, b])
                rows[vy * out_width + vx, (vi * kw + vj) * pixel_bytes + vb] = frame[
                    vy * sh + vi * dh, (vx * sw + vj * dw) * pixel_bytes + vb
                ]
        for p, b in T.grid(out_height * out_width, row_bytes - kh * kw * pixel_bytes):
            with T.sblock("clear_end"):
                vp, vb = T.axis.remap("SS", [p, b])
                rows[vp, kh * kw * pixel_bytes + vb] = T.uint8(0)

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
        T.func_attr({"tirx.noalias": True, "op_pattern": _OPAQUE, KIND: "popcount_gemm"})
        T.func_attr({USED_BYTES: used})
        for i, j, k in T.grid(m, n, row_bytes):
            with T.sblock("count"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    c[vi, vj] = 0
                c[vi, vj] = c[vi, vj] + T.cast(T.popcount(a[vi, vk] ^ w[vj, vk]), "int32")

    return nest
