"""Transposes that constants can take over: the order of channels moves into weights.

A sum does not depend on the order of its terms: Σᵢ x[p(i)]·w[i] = Σⱼ x[j]·w[p⁻¹(j)]. So what lies
in another order is not moved; the weights that meet it are, once, before they are packed for a
kernel. Binary sums stay exact; float sums are added in another order.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bicompile.nodes import Nodes
from bicompile.ops import DOMAIN

_BINARIZERS = ("DualScale", "Threshold")
_TO_CHANNELS_FIRST, _BETWEEN, _TO_ROWS = [0, 3, 1, 2], [0, 2, 1, 3], [0, 2, 1]


def reorder(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the order of channels into constants where a transpose is there for that alone.

    A map (N, H, W, C) whose columns become rows of channels c·H + h for a linear layer, binarized
    for it or not: rows then hold channels h·C + c, which are runs of C. And a float layer behind a
    flattened transpose: it reads what was transposed.
    """
    reordered = onnx.ModelProto()
    reordered.CopyFrom(model)
    graph = _Graph(reordered.graph)
    for node in list(reordered.graph.node):
        if node.op_type == "BinaryLinear" and node.domain == DOMAIN:
            binarizer = graph.only_read(node.input[0], *_BINARIZERS)
            if binarizer is not None and _mixes_channels(binarizer):
                graph.reorder_rows(node, binarizer)
        elif node.op_type == "MatMul":
            graph.reorder_rows(node, node)
        elif node.op_type in ("Gemm", "QuantizedLinear"):
            graph.reorder_flattened(node)
    return reordered


class _Graph(Nodes):
    """Finds what stands before a layer, and rewrites it in place."""

    def reorder_rows(self, layer: onnx.NodeProto, reader: onnx.NodeProto) -> None:
        """Let a map become rows by runs of channels, if it becomes a layer's rows.

        `reader` reads the rows: the layer's binarizer, or a float layer itself.
        """
        to_rows = self.only_read(reader.input[0], "Transpose", domain="")
        reshaped = to_rows and self.only_read(to_rows.input[0], "Reshape", domain="")
        first = reshaped and self.only_read(reshaped.input[0], "Transpose", domain="")
        if to_rows is None or reshaped is None or first is None:
            return
        shape = self.shapes.get(first.input[0], ())
        if _permutation(first) != _TO_CHANNELS_FIRST or _permutation(to_rows) != _TO_ROWS:
            return
        if len(shape) != 4 or not all(shape):
            return
        batch, height, width, depth = shape
        rows = (batch, width, depth * height)
        constants = [] if reader is layer else [self.constant(name) for name in reader.input[1:]]
        weights = self.constant(layer.input[1])
        if self.shapes.get(to_rows.output[0]) != rows or weights is None:
            return
        if any(c is None or c.shape != rows[2:] for c in constants):
            return
        if weights.ndim != 2:
            return
        order = np.arange(rows[2]).reshape(depth, height).T.ravel()
        for index, constant in enumerate(constants, start=1):
            assert constant is not None
            reader.input[index] = self._add(reader.input[index], constant[order])
        if reader is layer:
            layer.input[1] = self._add(layer.input[1], weights[order])
        else:
            bits = np.unpackbits(weights, axis=-1, bitorder="little", count=rows[2])
            packed = np.packbits(bits[:, order], axis=-1, bitorder="little")
            layer.input[1] = self._add(layer.input[1], packed)
        _set_permutation(first, _BETWEEN)
        self._note(first.output[0], (batch, width, height, depth))
        self._note(reshaped.output[0], rows)
        reshaped.input[1] = self._add(reshaped.input[1], np.array(rows, np.int64))
        reader.input[0] = reshaped.output[0]
        self.graph.node.remove(to_rows)

    def reorder_flattened(self, layer: onnx.NodeProto) -> None:
        """Let a float layer read what a transpose before it reads."""
        reshaped = self.only_read(layer.input[0], "Reshape", "Flatten", domain="")
        transpose = reshaped and self.only_read(reshaped.input[0], "Transpose", domain="")
        weights = self.constant(layer.input[1])
        if reshaped is None or transpose is None or weights is None or _flag(layer, "transA"):
            return
        shape, order = self.shapes.get(transpose.input[0], ()), _permutation(transpose)
        size = int(np.prod(shape))
        if not size or order is None or self.shapes.get(reshaped.output[0]) != (1, size):
            return
        places = np.arange(size).reshape(shape).transpose(order).ravel()
        axis = 1 if _flag(layer, "transB") else 0
        layer.input[1] = self._add(layer.input[1], weights.take(np.argsort(places), axis))
        # Its shape is said anew: it may have been taken from axes that the transpose had moved.
        whole = self._add(f"{reshaped.output[0]}/shape", np.array((1, size), np.int64))
        inputs = [transpose.input[0], whole]
        reshaped.CopyFrom(onnx.helper.make_node("Reshape", inputs, reshaped.output, reshaped.name))
        self.graph.node.remove(transpose)

    def _add(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant under a name of its own: others may read the one it comes from."""
        new = f"{name}/reordered"
        while new in self.tensors:
            new += "_"
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), new)
        self.graph.initializer.append(tensor)
        self.tensors[new] = tensor
        return new

    def _note(self, name: str, shape: tuple[int, ...]) -> None:
        """Note the shape of a value that has another one now."""
        for value in self.graph.value_info:
            if value.name == name:
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))


def _mixes_channels(binarizer: onnx.NodeProto) -> bool:
    """Whether what a binarizer gives beside its bits is the same in any order of channels."""
    given = {each.name: onnx.helper.get_attribute_value(each) for each in binarizer.attribute}
    if given.get("group", 1) != 1:
        return False
    return binarizer.op_type == "Threshold" or 2 in given["axes"]


def _permutation(node: onnx.NodeProto) -> list[int] | None:
    return next((list(each.ints) for each in node.attribute if each.name == "perm"), None)


def _set_permutation(node: onnx.NodeProto, order: list[int]) -> None:
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("perm", order))


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(each.name == name and each.i for each in node.attribute)
