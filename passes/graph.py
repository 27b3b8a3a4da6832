"""What the passes share: looking at a graph and adding nodes to it."""

from collections.abc import Sequence
from itertools import chain, count

import numpy as np
import onnx_ir as ir

DECISION = "bicompile.decision"
"""Metadata key of a convolution, matmul or Gemm: BINARY, FLOAT or LOOKS_BINARY, `: `, reason."""

BINARY, FLOAT, LOOKS_BINARY = "binary", "float", "float with ±1 weights"

LAYER = "bicompile.layer"
"""Metadata key of a binary node: the name of the layer that it computes a plane of."""

ASSUMED = "bicompile.assumed"
"""Metadata key of a choice between two values: what it takes for granted, such as sign(0) = +1."""


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant, or None where the value is computed."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def scalar(value: ir.Value | None) -> float | None:
    """The number in a float32 constant of one element, or None."""
    array = constant(value)
    if array is None or array.size != 1 or array.dtype != np.float32:
        return None
    return float(array.reshape(()))


def produced_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The standard node that computes `value`, if it is one of `op_types`."""
    node = value.producer() if value is not None else None
    if node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types:
        return node
    return None


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value; load_model made sure that every value has one."""
    assert value.shape is not None
    return tuple(int(dim) for dim in value.shape)


def is_float32(value: ir.Value) -> bool:
    """Whether a value is float32: what the domain and the passes compute in."""
    return bool(value.dtype == ir.DataType.FLOAT)


def ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute of integers, or its default."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())


def names_in(graph: ir.Graph) -> set[str]:
    """Every name that a new node or value may not take."""
    names = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    for node in ir.traversal.RecursiveGraphIterator(graph):
        names.add(node.name)
        names.update(value.name for value in (*node.inputs, *node.outputs) if value is not None)
    return {name for name in names if name is not None}


class Builder:
    """Adds nodes before an anchor, named after it; shapes are given by hand."""

    def __init__(self, anchor: ir.Node, taken: set[str]) -> None:
        """`taken` are the names in the graph (see names_in); what this builder adds joins them."""
        self._anchor = anchor
        self._scope = anchor.name or anchor.op_type
        self._taken = taken
        graph = anchor.graph
        assert isinstance(graph, ir.Graph)
        self._graph = graph

    def constant(self, label: str, array: np.ndarray) -> ir.Value:
        """Add an initializer."""
        name = self._unused(label)
        value = ir.val(name, const_value=ir.tensor(np.array(array, order="C"), name=name))
        value.shape = ir.Shape(array.shape)
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self._graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        dtype: ir.DataType = ir.DataType.FLOAT,
        *,
        label: str = "",
        domain: str = "",
        metadata: dict[str, str] | None = None,
        **attributes: object,
    ) -> ir.Value:
        """Add a node with one output of `shape` and `dtype`; returns that output."""
        (output,) = self.node_of_many(
            op_type,
            inputs,
            [(shape, dtype)],
            label=label,
            domain=domain,
            metadata=metadata,
            **attributes,
        )
        return output

    def node_of_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        outputs: Sequence[tuple[Sequence[int], ir.DataType]],
        *,
        label: str = "",
        domain: str = "",
        metadata: dict[str, str] | None = None,
        **attributes: object,
    ) -> Sequence[ir.Value]:
        """Add a node with an output of every shape and dtype; the first is named as the node."""
        name = self._unused(label or op_type)
        new = ir.node(
            op_type,
            inputs,
            attributes=attributes or None,
            domain=domain,
            name=name,
            metadata_props=metadata,
            num_outputs=len(outputs),
        )
        for index, (output, (shape, dtype)) in enumerate(zip(new.outputs, outputs, strict=True)):
            output.name = self._unused(f"{label or op_type}_output{index}") if index else name
            output.shape = ir.Shape(shape)
            output.type = ir.TensorType(dtype)
        self._graph.insert_before(self._anchor, new)
        return list(new.outputs)

    def _unused(self, label: str) -> str:
        name = f"{self._scope}/{label}"
        numbered = (f"{name}_{i}" for i in count(1))
        unused = next(each for each in chain([name], numbered) if each not in self._taken)
        self._taken.add(unused)
        return unused


def replace(old: ir.Node, new: ir.Value) -> None:
    """Let everything that used the one output of `old` use `new`, and remove `old`.

    A value that nothing used yet takes the name over: it is what had that name. So the check of a
    pass finds it.
    """
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    output = old.outputs[0]
    is_new = new.producer() is not None and not new.uses() and not new.is_graph_output()
    if is_new or output.is_graph_output():
        name = output.name
        output.name, new.name = f"{name}/replaced", name
    output.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(old, safe=True)
