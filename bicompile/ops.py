"""The ONNX domain `bicompile`, version 1: each op is a function body in standard ONNX ops.

The body is the specification and what onnxruntime runs, so a graph that uses the domain stays a
model anybody can open and run. All ops are channels-last. A tensor of *bits* is uint8 with the
channels packed along its last axis, eight to a byte, the lowest channel in the lowest bit, and
clear bits after the last channel: shape (…, C) becomes (…, ceil(C / 8)). A set bit means +1, a
clear bit −1.

A binary product is exact in integers: for a, w ∈ {±1}^K packed as bits,
a·w = K − 2·popcount(a xor w).
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto
from onnxscript import FLOAT, INT32, UINT8, script
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
def Threshold(x: FLOAT[...], threshold: FLOAT[...], greater: int) -> UINT8[...]:  # noqa: N802
    """Compare with a threshold per channel and pack: (…, C) float32, (C,) → (…, ceil(C / 8)) bits.

    A bit is set where x ≥ threshold (`greater` = 1) or x ≤ threshold (`greater` = 0). A NaN on
    either side leaves it clear.
    """
    at_least = op.And(op.GreaterOrEqual(x, threshold), op.Cast(greater, to=_BOOL))
    at_most = op.And(op.LessOrEqual(x, threshold), op.Cast(1 - greater, to=_BOOL))
    bits = op.Cast(op.Or(at_least, at_most), to=_INT32)
    missing = op.Mod(op.Neg(op.Shape(threshold)), [8])
    padded = op.Pad(bits, op.Concat([0], missing, axis=0), None, [-1])
    leading = op.Slice(op.Shape(x), [0], [-1])
    bytes_of_bits = op.Reshape(padded, op.Concat(leading, [-1, 8], axis=0))
    worths = op.Constant(value=_WORTHS)
    return op.Cast(op.ReduceSum(op.Mul(bytes_of_bits, worths), [-1], keepdims=0), to=_UINT8)


@script(_domain, default_opset=op)
def Unpack(bits: UINT8[...], channels: int) -> FLOAT[...]:  # noqa: N802
    """Spread bits to ±1: (…, ceil(channels / 8)) bits → (…, channels) float32."""
    masks = op.Constant(value=_MASKS)
    spread = op.Cast(op.BitwiseAnd(op.Unsqueeze(bits, [-1]), masks), to=_BOOL)
    leading = op.Slice(op.Shape(bits), [0], [-1])
    flat = op.Reshape(op.Where(spread, 1.0, -1.0), op.Concat(leading, [-1], axis=0))
    end = op.Reshape(op.Constant(value_int=channels), [1])
    return op.Slice(flat, [0], end, [-1])


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
def BinaryConv2d(  # noqa: N802
    bits: UINT8[...],
    weights: UINT8[...],
    channels: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> INT32[...]:
    """Convolve: (N, H, W, ceil(C / 8)) bits, (O, kh, kw, ceil(C / 8)) bits → (N, H', W', O) int32.

    The padding of `pads` (top, left, bottom, right) is zero, neither +1 nor −1, so a result at a
    border sums over fewer than kh·kw·C products. Exact while kh·kw·C < 2^24.
    """
    activation = op.Transpose(Unpack(bits, channels=channels), perm=[0, 3, 1, 2])
    kernel = op.Transpose(Unpack(weights, channels=channels), perm=[0, 3, 1, 2])
    product = op.Conv(activation, kernel, strides=strides, pads=pads, dilations=dilations)
    return op.Cast(op.Transpose(product, perm=[0, 2, 3, 1]), to=_INT32)


FUNCTIONS = (Threshold, Unpack, BinaryLinear, BinaryConv2d)


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
