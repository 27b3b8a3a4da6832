"""Tensors whose every element is an odd integer: sums of an odd number of ±1 products.

Such a sum is never zero, so its sign is +1 or −1. Conditions: a MatMul, Gemm or Conv as exporters
write it, without a bias and without padding, with constant weights of ±1 and an input of ±1; the
count of products in a sum is odd and below 2^24, up to which float32 sums of integers are exact.
Max-pooling and moving elements about make no other numbers.
"""

import math

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import constant, ints, produced_by
from bicompile.passes.two_values import taken_from, values_of

_MOST_PRODUCTS = 2**24
_MOST_NODES = 16
_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "auto_pad": "NOTSET"}


def are_odd_integers(value: ir.Value) -> bool:
    """Whether every element of a tensor is proved to be an odd integer."""
    for _ in range(_MOST_NODES):
        source = taken_from(value)
        if source is None:
            break
        value = source
    layer = produced_by(value, "Conv", "Gemm", "MatMul")
    return layer is not None and _gives_odd_integers(layer)


def _gives_odd_integers(layer: ir.Node) -> bool:
    weights = constant(layer.inputs[1])
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] is not None
    if weights is None or has_bias or not weights.size or not (np.abs(weights) == 1).all():
        return False
    if any(ints(layer, "pads", [])) or any(
        layer.attributes[name].value != usual
        for name, usual in _DEFAULTS.items()
        if name in layer.attributes
    ):
        return False
    products = _products(layer, weights.shape)
    odd = products % 2 == 1 and products < _MOST_PRODUCTS
    return odd and values_of(layer.inputs[0]) == {-1.0, 1.0}


def _products(layer: ir.Node, shape: tuple[int, ...]) -> int:
    """How many products a sum takes in."""
    if layer.op_type == "Conv":
        return math.prod(shape[1:])
    transposed = layer.attributes.get("transB")
    return shape[-1] if transposed is not None and transposed.as_int() else shape[-2]
