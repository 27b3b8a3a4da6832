"""Converters of integer thresholds, alone or with the layer whose accumulator they compare."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from bicompile import workloads
from bicompile.converters import BinaryLayer
from bicompile.convolution import Convolution, call, name_of, reshape, shape_of
from bicompile.ops import pack_bits
from bicompile.sign_workloads import popcount_threshold


class IntegerThreshold(onnx_frontend.OnnxOpConverter):
    """A bit where direction·accumulator ≥ threshold."""

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        accumulator, direction, threshold = inputs
        groups = int(attributes["group"])
        return compared(builder, accumulator, direction, threshold, groups, name_of(attributes))


def compared(
    builder: Any, accumulator: Any, direction: Any, threshold: Any, groups: int, name: str
) -> Any:
    """Compare an accumulator that lies in memory, and pack."""
    *leading, channels = shape_of(accumulator)
    if (direction.value.numpy() != 1).any():
        accumulator = builder.emit(relax.op.multiply(accumulator, direction))
    rows, row_bytes = prod(leading), groups * -(-channels // groups // 8)
    nest = workloads.threshold(rows, channels // groups, groups=groups, greater=True, dtype="int32")
    flat = reshape(builder, accumulator, (rows, channels))
    bits = call(builder, nest, [flat, threshold], (rows, row_bytes), "uint8", name)
    return reshape(builder, bits, (*leading, row_bytes))


class Signs(onnx_frontend.OnnxOpConverter):
    """A layer and its integer threshold (see fuse): one nest where the layer has one group."""

    layer: type[BinaryLayer]

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        bits, weights, direction, threshold = inputs
        layer, shape = cls.layer.read(shape_of(bits), weights.value.numpy(), attributes)
        name = name_of(attributes)
        if layer.group > 1:
            accumulator = layer.dot(builder, bits, shape, name)
            return compared(builder, accumulator, direction, threshold, 1, name)
        turned, limits = counts_below(layer, direction.value.numpy(), threshold.value.numpy())
        rows, outputs = layer.rows, len(layer.weights)
        patches, row_bytes = layer.gathered(1), -(-outputs // 8)
        nest = popcount_threshold(
            rows,
            outputs,
            turned.row_bytes,
            used_bytes=turned.used_bytes,
            limits=len(limits),
            patches=patches,
        )
        given = [layer.operand(builder, bits, patches, name)]
        given += [relax.const(turned.filters), relax.const(limits)]
        found = call(builder, nest, given, (rows, row_bytes), "uint8", name)
        return reshape(builder, found, (*shape[:-1], row_bytes))


def counts_below(
    layer: Convolution, direction: np.ndarray, threshold: np.ndarray
) -> tuple[Convolution, np.ndarray]:
    """A layer, and limits: a bit is set where at most so many bits of its operands differ.

    With c differing bits the accumulator is a = p − 2c. a ≥ t is c ≤ (p − t) / 2. For −a ≥ t the
    output's weights are turned over: then K − c differ, and that is ≤ K − (p + t) / 2, rounded up
    before it is taken off. Limits are (1, N) int32, or (rows, N) where p differs between rows.
    """
    products = layer.products().astype(np.int64)
    shape = (layer.image[0], *products.shape[1:]) if products.ndim else ()
    sums = np.broadcast_to(products, shape).reshape(-1, products.shape[-1] if products.ndim else 1)
    bits, t = prod(layer.kernel) * layer.channels, threshold.astype(np.int64)
    limits = np.where(direction > 0, (sums - t) // 2, bits - -(-(sums + t) // 2))
    ones = pack_bits(np.ones((1, layer.channels), np.int64)).reshape(-1)
    turned = np.where((direction > 0)[:, None, None, None], layer.weights, layer.weights ^ ones)
    limited = np.clip(limits, -1, bits).astype(np.int32)
    return replace(layer, weights=turned), limited
