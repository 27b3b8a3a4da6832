"""What the passes share: looking at a graph and adding nodes to it."""

from collections.abc import Container, Sequence
from itertools import chain, count

import numpy as np
import onnx_ir as ir

DECISION = "bicompile.decision"
"""Metadata key of a convolution, matmul or Gemm: `binary: …` or `float: …` with the reason."""

LAYER = "bicompile.layer"
"""Metadata key of a binary node: the name of the layer that it computes a plane of."""


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant, or None where the value is computed."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element, or None."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def produced_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The standard node that computes `value`, if it is one of `op_types`."""
    node = value.producer() if value is not None else None
    if node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types:
        return node
    return None


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value; load_model made sure that every value has one."""
    if value.shape is None or not value.shape.is_static():
        raise ValueError(f"the shape of {value.name} is not static")
    return tuple(int(dim) for dim in value.shape)


def ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute of integers, or its default."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())


class Builder:
    """Adds nodes before an anchor; their names start with `scope`, and shapes are given by hand."""

    def __init__(self, anchor: ir.Node, scope: str) -> None:
        """Put every new node of this builder before `anchor`."""
        self._anchor = anchor
        self._scope = scope
        graph = anchor.graph
        assert isinstance(graph, ir.Graph)
        self._graph = graph

    def constant(self, label: str, array: np.ndarray) -> ir.Value:
        """Add an initializer."""
        name = _unused(f"{self._scope}/{label}", self._graph.initializers)
        value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
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
        taken = {
            name for node in self._graph for name in (node.name, *(v.name for v in node.outputs))
        }
        name = _unused(f"{self._scope}/{label or op_type}", taken)
        new = ir.node(
            op_type,
            inputs,
            attributes=attributes or None,
            domain=domain,
            name=name,
            metadata_props=metadata,
        )
        output = new.outputs[0]
        output.name = name
        output.shape = ir.Shape(shape)
        output.type = ir.TensorType(dtype)
        self._graph.insert_before(self._anchor, new)
        return output


def _unused(name: str, taken: Container[str | None]) -> str:
    numbered = (f"{name}_{i}" for i in count(1))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)


def replace(old: ir.Node, new: ir.Value) -> None:
    """Let everything that used the one output of `old` use `new`, and remove `old`."""
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    output = old.outputs[0]
    if output.is_graph_output():
        name = output.name
        output.name, new.name = f"{name}/replaced", name
    output.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(old, safe=True)
