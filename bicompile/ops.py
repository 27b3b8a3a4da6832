"""The ONNX domain `bicompile`, version 1: each op is a function body in standard ONNX ops.

The body is the specification and what onnxruntime runs, so a graph that uses the domain stays a
model anybody can open and run. All ops are channels-last. A tensor of *bits* is uint8 with the
channels packed along its last axis, eight to a byte, the lowest channel in the lowest bit, and
clear bits after the last channel: shape (…, C) becomes (…, ceil(C / 8)). A set bit means +1, a
clear bit −1. For a convolution of G groups the channels of every group begin at a byte of their
own: (…, C) becomes (…, G·ceil(C / G / 8)), one byte a channel where it is depthwise.

A binary product is exact in integers: for a, w ∈ {±1}^K packed as bits,
a·w = K − 2·popcount(a xor w).
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto
from onnxscript import FLOAT, INT8, INT32, UINT8, script
from onnxscript import opset20 as op
from onnxscript.values import Opset

DOMAIN = "bicompile"
VERSION = 1
STANDARD_OPSET = 20

_domain = Opset(DOMAIN, VERSION)


def _constant(name: str, values: list[int], dtype: int) -> TensorProto:
    return onnx.helper.make_tensor(name, dtype, [len(values)], values)


_MASKS = _constant("masks", [1 << bit for bit in range(8)], TensorProto.UINT8)
_WORTHS = _constant("worths", [1 << bit for bit in range(8)], TensorProto.INT32)
_POPCOUNTS = _constant("popcounts", [byte.bit_count() for byte in range(256)], TensorProto.INT32)
_INT32 = int(TensorProto.INT32)
_UINT8 = int(TensorProto.UINT8)
_FLOAT = int(TensorProto.FLOAT)
_BOOL = int(TensorProto.BOOL)


@script(_domain, default_opset=op)
def Threshold(  # noqa: N802
    x: FLOAT[...], threshold: FLOAT[...], greater: int, group: int
) -> UINT8[...]:
    """Compare with a threshold per channel and pack: (…, C) float32, (C,) → (…, G·ceil(C / G / 8)).

    A bit is set where x ≥ threshold (`greater` = 1) or x ≤ threshold (`greater` = 0). A NaN on
    either side leaves it clear. G = `group`.
    """
    at_least = op.And(op.GreaterOrEqual(x, threshold), op.Cast(greater, to=_BOOL))
    at_most = op.And(op.LessOrEqual(x, threshold), op.Cast(1 - greater, to=_BOOL))
    bits = op.Cast(op.Or(at_least, at_most), to=_INT32)
    leading = op.Slice(op.Shape(x), [0], [-1])
    groups = op.Reshape(op.Constant(value_int=group), [1])
    grouped = op.Reshape(bits, op.Concat(leading, groups, [-1], axis=0))
    missing = op.Mod(op.Neg(op.Shape(grouped, start=-1)), [8])
    padded = op.Pad(grouped, op.Concat([0], missing, axis=0), None, [-1])
    bytes_of_bits = op.Reshape(padded, op.Concat(leading, [-1, 8], axis=0))
    worths = op.Constant(value=_WORTHS)
    return op.Cast(op.ReduceSum(op.Mul(bytes_of_bits, worths), [-1], keepdims=0), to=_UINT8)


@script(_domain, default_opset=op)
def Unpack(bits: UINT8[...], channels: int, group: int) -> FLOAT[...]:  # noqa: N802
    """Spread bits to ±1: (…, G·ceil(C / 8)) bits → (…, G·C) float32 for C `channels`, G groups."""
    masks = op.Constant(value=_MASKS)
    leading = op.Slice(op.Shape(bits), [0], [-1])
    groups = op.Reshape(op.Constant(value_int=group), [1])
    spread = op.Cast(op.BitwiseAnd(op.Unsqueeze(bits, [-1]), masks), to=_BOOL)
    signs = op.Where(spread, 1.0, -1.0)
    grouped = op.Reshape(signs, op.Concat(leading, groups, [-1], axis=0))
    end = op.Reshape(op.Constant(value_int=channels), [1])
    return op.Reshape(op.Slice(grouped, [0], end, [-1]), op.Concat(leading, [-1], axis=0))


@script(_domain, default_opset=op)
def BinaryLinear(bits: UINT8[...], weights: UINT8[...], channels: int) -> INT32[...]:  # noqa: N802
    """Product with every row: (…, ceil(K / 8)) bits, (N, ceil(K / 8)) bits → (…, N) int32.

    K − 2·popcount(bits xor weights), exact; K = `channels`.
    """
    differing = op.BitwiseXor(op.Unsqueeze(bits, [-2]), weights)
    popcounts = op.Gather(op.Constant(value=_POPCOUNTS), op.Cast(differing, to=_INT32))
    popcount = op.ReduceSum(popcounts, [-1], keepdims=0)
    return op.Sub(op.Cast(channels, to=_INT32), op.Add(popcount, popcount))


@script(_domain, default_opset=op)
def BinaryConv1d(  # noqa: N802
    bits: UINT8[...],
    weights: UINT8[...],
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    border: int,
    dilations: Sequence[int],
) -> INT32[...]:
    """Convolve: (N, L, G·ceil(C / 8)) bits, (O, k, ceil(C / 8)) bits → (N, L', O) int32.

    As BinaryConv2d with one axis less; `pads` are left and right.
    """
    activation = op.Transpose(Unpack(bits, channels=channels, group=group), perm=[0, 2, 1])
    kernel = op.Transpose(Unpack(weights, channels=channels, group=1), perm=[0, 2, 1])
    amounts = op.Constant(value_ints=pads)
    padded = op.Pad(activation, amounts, op.Cast(border, to=_FLOAT), [2])
    product = op.Conv(padded, kernel, group=group, strides=strides, dilations=dilations)
    return op.Cast(op.Transpose(product, perm=[0, 2, 1]), to=_INT32)


@script(_domain, default_opset=op)
def BinaryConv2d(  # noqa: N802
    bits: UINT8[...],
    weights: UINT8[...],
    channels: int,
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    border: int,
    dilations: Sequence[int],
) -> INT32[...]:
    """Convolve: (N, H, W, G·ceil(C / 8)) bits, (O, kh, kw, ceil(C / 8)) → (N, H', W', O) int32.

    C = `channels` is what a sum takes in at one position, all channels of one of the G = `group`
    groups; outputs are divided among the groups in order, and with C = 1 it is depthwise. The
    padding of `pads` (top, left, bottom, right) is `border`: +1, −1, or 0, which is neither, so
    that a result at a border sums over fewer than kh·kw·C products. Exact while kh·kw·C < 2^24.
    """
    activation = op.Transpose(Unpack(bits, channels=channels, group=group), perm=[0, 3, 1, 2])
    kernel = op.Transpose(Unpack(weights, channels=channels, group=1), perm=[0, 3, 1, 2])
    amounts = op.Constant(value_ints=pads)
    padded = op.Pad(activation, amounts, op.Cast(border, to=_FLOAT), [2, 3])
    product = op.Conv(padded, kernel, group=group, strides=strides, dilations=dilations)
    return op.Cast(op.Transpose(product, perm=[0, 2, 3, 1]), to=_INT32)


@script(_domain, default_opset=op)
def DualScale(  # noqa: N802
    x: FLOAT[...],
    threshold: FLOAT[...],
    shift: FLOAT[...],
    threshold2: FLOAT[...],
    greater: int,
    greater2: int,
    group: int,
    axes: Sequence[int],
):
    """Two planes of bits and a scale, x ≈ b₁ + s·b₂: (N, …, C) → (2·N, …, G·ceil(C / G / 8)), s.

    b₁ is +1 where x ≥ threshold (`greater` = 1) or x ≤ threshold (0), else −1; r = x − b₁ is what
    is left; b₂ is r against threshold2 in the same way (`greater2`), and s the mean of |r − shift|
    over `axes`, which stay with size 1. Thresholds and shift are (C,) float32. Packed as Threshold
    does; all of b₁ comes first along the first axis, then all of b₂.
    """
    at_least = op.And(op.GreaterOrEqual(x, threshold), op.Cast(greater, to=_BOOL))
    at_most = op.And(op.LessOrEqual(x, threshold), op.Cast(1 - greater, to=_BOOL))
    left = op.Sub(x, op.Where(op.Or(at_least, at_most), 1.0, -1.0))
    first = Threshold(x, threshold, greater=greater, group=group)
    second = Threshold(left, threshold2, greater=greater2, group=group)
    scale = op.ReduceMean(op.Abs(op.Sub(left, shift)), op.Constant(value_ints=axes), keepdims=1)
    return op.Concat(first, second, axis=0), scale


@script(_domain, default_opset=op)
def Epilogue(  # noqa: N802
    accumulator: INT32[...],
    scale: FLOAT[...],
    multiplier: FLOAT[...],
    shift: FLOAT[...],
    slope: FLOAT[...],
    residual: FLOAT[...],
) -> FLOAT[...]:
    """PReLU(scale·accumulator·multiplier + shift) + residual, float32 in this order.

    (…, N) int32 → (…, N) float32. The others are float32 and broadcast to that; what a layer does
    not have is 1 or 0 of shape (). PReLU multiplies what is below zero by `slope`.
    """
    total = op.Mul(op.Cast(accumulator, to=_FLOAT), scale)
    shifted = op.Add(op.Mul(total, multiplier), shift)
    return op.Add(op.PRelu(shifted, slope), residual)


@script(_domain, default_opset=op)
def DualEpilogue(  # noqa: N802
    accumulator: INT32[...],
    scale: FLOAT[...],
    multiplier: FLOAT[...],
    shift: FLOAT[...],
    slope: FLOAT[...],
    residual: FLOAT[...],
) -> FLOAT[...]:
    """PReLU((a₁ + scale·a₂)·multiplier + shift) + residual, float32 in this order.

    a₁ and a₂ are the halves of the accumulator along its first axis, as a product with the planes
    of DualScale gives them: (2·N, …, O) int32 → (N, …, O) float32. The others as in Epilogue.
    """
    first, second = op.Split(op.Cast(accumulator, to=_FLOAT), axis=0, num_outputs=2)
    shifted = op.Add(op.Mul(op.Add(first, op.Mul(second, scale)), multiplier), shift)
    return op.Add(op.PRelu(shifted, slope), residual)


@script(_domain, default_opset=op)
def IntegerThreshold(  # noqa: N802
    accumulator: INT32[...], direction: INT32[...], threshold: INT32[...], group: int
) -> UINT8[...]:
    """Compare an accumulator with an integer per channel and pack: (…, C) int32 → bits.

    A bit is set where direction·accumulator ≥ threshold; direction is 1 or −1. Both are (C,)
    int32. Packed as Threshold does. Exact while |accumulator| ≤ 2^24.
    """
    turned = op.Cast(op.Mul(accumulator, direction), to=_FLOAT)
    return Threshold(turned, op.Cast(threshold, to=_FLOAT), greater=1, group=group)


@script(_domain, default_opset=op)
def QuantizedLinear(  # noqa: N802
    x: FLOAT[...], weights: INT8[...], scale: FLOAT[...], bias: FLOAT[...]
) -> FLOAT[...]:
    """Product with weights of 8 bits: (…, K) float32, (K, N) int8, (N,), (N,) → (…, N) float32.

    (x·weights)·scale + bias; a weight is its int8 times the scale of its output.
    """
    product = op.MatMul(x, op.Cast(weights, to=_FLOAT))
    return op.Add(op.Mul(product, scale), bias)


@script(_domain, default_opset=op)
def FloatConv1d(  # noqa: N802
    x: FLOAT[...],
    weights: FLOAT[...],
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> FLOAT[...]:
    """Convolve float32: (N, L, C), (k, C / G, O) → (N, L', O).

    As FloatConv2d with one axis less; `pads` are left and right.
    """
    activation = op.Transpose(x, perm=[0, 2, 1])
    kernel = op.Transpose(weights, perm=[2, 1, 0])
    y = op.Conv(activation, kernel, group=group, strides=strides, pads=pads, dilations=dilations)
    return op.Transpose(y, perm=[0, 2, 1])


@script(_domain, default_opset=op)
def FloatConv2d(  # noqa: N802
    x: FLOAT[...],
    weights: FLOAT[...],
    group: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> FLOAT[...]:
    """Convolve float32: (N, H, W, C), (kh, kw, C / G, O) → (N, H', W', O).

    The standard Conv with channels last; G = `group`, `pads` are top, left, bottom, right.
    """
    activation = op.Transpose(x, perm=[0, 3, 1, 2])
    kernel = op.Transpose(weights, perm=[3, 2, 0, 1])
    y = op.Conv(activation, kernel, group=group, strides=strides, pads=pads, dilations=dilations)
    return op.Transpose(y, perm=[0, 2, 3, 1])


FUNCTIONS = (
    Threshold,
    Unpack,
    BinaryLinear,
    BinaryConv1d,
    BinaryConv2d,
    DualScale,
    Epilogue,
    DualEpilogue,
    IntegerThreshold,
    QuantizedLinear,
    FloatConv1d,
    FloatConv2d,
)


def function_protos() -> list[onnx.FunctionProto]:
    """The domain as model-local functions, to be shipped inside a model."""
    return [function.to_function_proto() for function in FUNCTIONS]


def pack_bits(signs: np.ndarray) -> np.ndarray:
    """Pack ±1 along the last axis: (…, C) → (…, ceil(C / 8)) uint8; anything above 0 sets a bit."""
    return np.packbits(signs > 0, axis=-1, bitorder="little")


def unpack_bits(bits: np.ndarray, channels: int) -> np.ndarray:
    """Spread bits to ±1: (…, ceil(channels / 8)) uint8 → (…, channels) int8."""
    spread = np.unpackbits(bits, axis=-1, count=channels, bitorder="little")
    return spread.astype(np.int8) * np.int8(2) - np.int8(1)
