"""Σ over k of x[π(k)]·w[k] = Σ over k of x[k]·w[π⁻¹(k)]: a sum has no order, so its weights move.

Where a network flattens a tensor and multiplies, the channels-last tensor is transposed back first,
only so that its elements meet their weights. The weights are constant: they are put in the order in
which the elements lie, and of all the moving about at most one transpose of whole rows is left.

Conditions: the input of a layer is computed from a tensor by transposes and reshapes alone; in the
new order it is a transpose and a reshape of that tensor, and one with fewer axes moved; every node
that reads it is a product with one constant matrix, float or binary (through Threshold or a
DualScale whose mean is over the channels too, and that only such products read), of one group. The
layer's sum is ordered differently where it is float.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bicompile.ops import DOMAIN, pack_bits, unpack_bits
from bicompile.passes.dual_scale import domain_node, ints_or
from bicompile.passes.graph import (
    Builder,
    constant,
    names_in,
    produced_by,
    shape_of,
)

Order = NDArray[np.int64]


def reorder_channels(model: ir.Model) -> None:
    """Apply the rewrite of this file to every tensor that a layer reads."""
    names = names_in(model.graph)
    for node in list(model.graph):
        moved = node.outputs[0] if node.outputs else None
        if produced_by(moved, "Transpose", "Reshape") is None or not _is_read_by_layers(node):
            continue
        source = _source(node)
        found = _better_order(source, node)
        readers = [use.node for use in node.outputs[0].uses()]
        if found is None or not all(map(_may_change, readers)):
            continue
        perm, order = found
        value = _moved(Builder(readers[0], names), source, perm, shape_of(node.outputs[0]))
        for reader in readers:
            _change(reader, value, order, Builder(reader, names))


def _is_read_by_layers(node: ir.Node) -> bool:
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    movers = (produced_by(reader.outputs[0], "Transpose", "Reshape") for reader in readers)
    return bool(readers) and not output.is_graph_output() and not any(movers)


def _source(node: ir.Node) -> ir.Value:
    """What transposes and reshapes in a row begin with."""
    value = node.inputs[0]
    assert value is not None
    while (before := produced_by(value, "Transpose", "Reshape")) is not None:
        value = before.inputs[0]
        assert value is not None
    return value


def _better_order(source: ir.Value, last: ir.Node) -> tuple[tuple[int, ...], Order] | None:
    """A transpose of the source, and which channel of the input now stands at each place."""
    shape = shape_of(source)
    moved = _follow(source, last, np.arange(np.prod(shape)).reshape(shape))
    rows = moved.reshape(-1, moved.shape[-1])
    order = np.argsort(rows[0])
    along_rows = _axes_along(rows[:, 0], shape)
    perm = (*along_rows, *(axis for axis in range(len(shape)) if axis not in along_rows))
    wanted = np.arange(np.prod(shape)).reshape(shape).transpose(perm).reshape(rows.shape)
    if not np.array_equal(rows[:, order], wanted) or (order == np.arange(len(order))).all():
        return None
    return perm, order


def _follow(source: ir.Value, last: ir.Node, array: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the nodes from the source to the last make of an array."""
    nodes = [last]
    while nodes[-1].inputs[0] is not source:
        before = nodes[-1].inputs[0]
        assert before is not None
        producer = before.producer()
        assert producer is not None
        nodes.append(producer)
    for node in reversed(nodes):
        if node.op_type == "Transpose":
            perm = node.attributes.get("perm")
            array = array.transpose(None if perm is None else perm.as_ints())
        else:
            array = array.reshape(shape_of(node.outputs[0]))
    return array


def _axes_along(places: NDArray[np.int64], shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of the source that some places of it differ in, in the order in which they do."""
    at = np.stack(np.unravel_index(places, shape))
    first = {
        axis: int(np.argmax(row != row[0])) for axis, row in enumerate(at) if (row != row[0]).any()
    }
    return tuple(sorted(first, key=lambda axis: -first[axis]))


def _may_change(reader: ir.Node) -> bool:
    if produced_by(reader.outputs[0], "Gemm", "MatMul") is not None:
        weights = constant(reader.inputs[1])
        is_plain = ints_or(reader, "transA", 0) == 0
        return weights is not None and weights.ndim == 2 and is_plain
    if domain_node(reader.outputs[0], "Threshold", "DualScale") is None:
        return False
    if ints_or(reader, "group", 1) != 1:
        return False
    if reader.op_type == "DualScale":
        assert reader.inputs[0] is not None
        last = len(shape_of(reader.inputs[0])) - 1
        if last not in reader.attributes["axes"].as_ints():
            return False
    uses = list(reader.outputs[0].uses())
    layers = (domain_node(use.node.outputs[0], "BinaryLinear") for use in uses)
    return bool(uses) and all(layer is not None for layer in layers)


def _moved(
    build: Builder, source: ir.Value, perm: tuple[int, ...], shape: tuple[int, ...]
) -> ir.Value:
    dtype = source.dtype
    assert dtype is not None
    sizes = shape_of(source)
    if perm != tuple(range(len(perm))):
        sizes = tuple(sizes[axis] for axis in perm)
        source = build.node("Transpose", [source], sizes, dtype, perm=perm)
    if sizes == shape:
        return source
    wanted = build.constant("shape", np.array(shape, np.int64))
    return build.node("Reshape", [source, wanted], shape, dtype)


def _change(reader: ir.Node, value: ir.Value, order: Order, build: Builder) -> None:
    reader.replace_input_with(0, value)
    if reader.domain != DOMAIN:
        weights = constant(reader.inputs[1])
        assert weights is not None
        across = ints_or(reader, "transB", 0) == 1
        ordered = weights[:, order] if across else weights[order]
        reader.replace_input_with(1, build.constant("weights", ordered))
        return
    for index, operand in enumerate(reader.inputs[1:], start=1):
        array = constant(operand)
        assert array is not None
        reader.replace_input_with(index, build.constant("of_channels", array[order]))
    for use in list(reader.outputs[0].uses()):
        weights = constant(use.node.inputs[1])
        assert weights is not None
        signs = unpack_bits(weights, len(order))[:, order]
        use.node.replace_input_with(1, build.constant("weights", pack_bits(signs)))
