"""f(accumulator) ≥ θ → direction·accumulator ≥ t, all integers, one t and direction per channel.

Where the next thing that reads a float computed from a binary layer's accumulator is a comparison,
the floats need not be there. f is a chain of elementwise operators with a constant per channel:
a batch norm's product and sum, a PReLU, in any number. A sum of K products lies between −K and K,
so every accumulator is tried, in the float arithmetic of the graph: the bits of a channel change at
most once along them, or the comparison stays as it is. They are set from t on where they appear
(direction 1), up to −t where they vanish (−1), as with a negative batch norm; always or never where
they do not change.

Conditions: f begins with the conversion of the accumulator to float32, changes no shape, and has no
operand that is computed or varies along another axis than the last.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bicompile.ops import DOMAIN
from bicompile.passes.dual_scale import BINARY_LAYERS, domain_node
from bicompile.passes.elementwise import function_of
from bicompile.passes.graph import Builder, constant, names_in, produced_by, replace, shape_of

_LARGEST_PRODUCTS = 2**16
_MOST_TRIED = 2**22  # at once

Function = Callable[..., Any]


def integer_threshold(model: ir.Model) -> None:
    """Apply the rewrite of this file to every Threshold."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if domain_node(node.outputs[0], "Threshold") is None:
            continue
        chain = _chain_behind(node)
        found = None if chain is None else _integer_steps(node, *chain)
        if chain is not None and found is not None:
            build = Builder(node, names)
            bits = build.node(
                "IntegerThreshold",
                [
                    chain[0].outputs[0],
                    build.constant("direction", found[0]),
                    build.constant("threshold", found[1]),
                ],
                shape_of(node.outputs[0]),
                ir.DataType.UINT8,
                domain=DOMAIN,
                group=node.attributes["group"].as_int(),
            )
            replace(node, bits)


def _chain_behind(threshold: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """The binary layer, and the nodes from its accumulator to what the Threshold reads."""
    value = threshold.inputs[0]
    assert value is not None
    shape, nodes = shape_of(value), list[ir.Node]()
    while True:
        node = value.producer()
        layer = domain_node(value, *BINARY_LAYERS)
        if layer is not None:
            return (layer, nodes[::-1]) if nodes else None
        if node is None or _function(node) is None or shape_of(value) != shape:
            return None
        computed = [v for v in node.inputs if v is not None and constant(v) is None]
        if len(computed) != 1:
            return None
        nodes.append(node)
        (value,) = computed


def _function(node: ir.Node) -> Function | None:
    """What a node computes, in numpy, or None."""
    if produced_by(node.outputs[0], "PRelu") is not None:
        return lambda x, slope: np.where(x < 0, slope * x, x)
    return function_of(node)


def _integer_steps(
    threshold: ir.Node, layer: ir.Node, nodes: list[ir.Node]
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Directions and thresholds per channel, or None where there are none."""
    channels = shape_of(layer.outputs[0])[-1]
    most = _products(layer)
    theta = constant(threshold.inputs[1])
    operands = [_operands(node, channels) for node in nodes]
    if theta is None or most > _LARGEST_PRODUCTS or any(each is None for each in operands):
        return None
    tried = np.arange(-most, most + 1, dtype=np.int32)[:, None]
    greater = bool(threshold.attributes["greater"].as_int())
    directions, thresholds = [], []
    block = max(1, _MOST_TRIED // len(tried))
    for start in range(0, channels, block):
        some = slice(start, min(start + block, channels))
        value: Any = tried
        with np.errstate(all="ignore"):
            for node, arrays in zip(nodes, operands, strict=True):
                function = _function(node)
                assert function is not None
                assert arrays is not None
                value = function(*(value if a is None else a[..., some] for a in arrays))
        bits = value >= theta[some] if greater else value <= theta[some]
        found = _steps(np.broadcast_to(bits, (len(tried), some.stop - start)), tried[:, 0])
        if found is None:
            return None
        directions.append(found[0])
        thresholds.append(found[1])
    return np.concatenate(directions), np.concatenate(thresholds)


def _products(layer: ir.Node) -> int:
    """K: how many products one sum takes in."""
    weights = layer.inputs[1]
    assert weights is not None
    return prod(shape_of(weights)[1:-1]) * int(layer.attributes["channels"].as_int())


def _operands(node: ir.Node, channels: int) -> list[NDArray[Any] | None] | None:
    """The constants of a node as (C,), None for the computed one; None where one is otherwise."""
    operands: list[NDArray[Any] | None] = []
    for value in node.inputs:
        array = constant(value)
        if array is not None:
            if array.size != (array.shape[-1] if array.ndim else 1):
                return None
            array = np.broadcast_to(array.reshape(-1), (channels,))
        elif value is None:
            return None
        operands.append(array)
    return operands


def _steps(
    bits: NDArray[np.bool_], tried: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Where the bits of every channel, by accumulator, appear or vanish, if they do it once."""
    if (np.count_nonzero(bits[1:] != bits[:-1], axis=0) > 1).any():
        return None
    rises = bits[-1] | ~bits[0]
    first = np.where(bits.any(axis=0), bits.argmax(axis=0), len(tried))
    last = len(tried) - 1 - bits[::-1].argmax(axis=0)
    lowest = int(tried[0])
    direction = np.where(rises, 1, -1).astype(np.int32)
    return direction, np.where(rises, first + lowest, -(last + lowest)).astype(np.int32)
