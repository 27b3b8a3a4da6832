"""A graph of ONNX nodes as the rewrites before lowering read it."""

from collections import Counter

import numpy as np
import onnx

from bicompile.ops import DOMAIN


class Nodes:
    """Who makes a value, how often it is read, its shape, its number if it is a constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Read a graph; what a rewrite changes in it later is not seen."""
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._reader_of = {name: node for node in graph.node for name in node.input}
        self._read = Counter(name for node in graph.node for name in node.input)
        self._read.update(value.name for value in graph.output)

    def times_read(self, name: str) -> int:
        """By how many inputs of nodes and outputs of the graph a value is read."""
        return self._read[name]

    def only_read(self, name: str, *ops: str, domain: str = DOMAIN) -> onnx.NodeProto | None:
        """The node that makes a value which is read once, if it is one of `ops`."""
        node = self._made_by.get(name)
        if node is None or node.domain != domain or node.op_type not in ops:
            return None
        return node if self._read[name] == 1 else None

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a value, once."""
        return self._reader_of.get(name) if self._read[name] == 1 else None

    def constant(self, name: str) -> np.ndarray | None:
        """The array of an initializer, or None for any other value."""
        tensor = self.tensors.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)
