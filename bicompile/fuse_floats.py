"""Float layers with what follows → one node each, before they are lowered."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from bicompile.nodes import Nodes
from bicompile.ops import DOMAIN, VERSION

FLOAT_LAYER = "FloatLayer"
"""A dense layer or a convolution with its epilogue: PReLU(x∗w + bias) + residual.

Inputs: x, weights (kh, kw, C / G, O), bias (O,), then slope (1,) where `bend` is "prelu", then a
residual like the result where `residual` is 1; attributes: group, strides, pads, dilations of two
axes, bend, residual. Results are channels-last; x is too, and its shape is told by its rank: a
dense layer takes (…, C), a convolution (1, L, C) or (1, H, W, C).
"""

_CONVOLUTIONS = ("FloatConv1d", "FloatConv2d")
_PRODUCTS = ("MatMul", "Gemm")


def fuse_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merge every float layer with the bias, the ReLU or PReLU and the sum that alone read it.

    Name and decision are the layer's. A layer whose weights or bias are computed is left, and a
    PReLU with several slopes, or one above 1, ends a chain.
    """
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = _Graph(fused.graph)
    for node in list(fused.graph.node):
        chain = graph.chain(node)
        if chain is not None:
            graph.merge(chain)
    if all(opset.domain != DOMAIN for opset in fused.opset_import):
        fused.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    return fused


@dataclass
class _Chain:
    """A layer and the steps after it that are taken in.

    Attributes:
        nodes: the layer, then its steps, the last of which gives the result.
        weights: (kh, kw, C / G, O).
        bias: (O,).
        bend: see float_workloads.BEND.
        slope: of a PReLU.
        residual: the name of the tensor that is added.
    """

    nodes: list[onnx.NodeProto]
    weights: np.ndarray
    bias: np.ndarray
    bend: str = ""
    slope: float = 0.0
    residual: str = ""


class _Graph(Nodes):
    """Looks at a graph of nodes and rewrites it in place."""

    def chain(self, node: onnx.NodeProto) -> _Chain | None:
        """What begins with a layer; None for any other node."""
        is_ours = node.domain == DOMAIN and node.op_type in _CONVOLUTIONS
        if not is_ours and (node.domain or node.op_type not in _PRODUCTS):
            return None
        weights = self.constant(node.input[1])
        if weights is None or weights.dtype != np.float32 or node.input[0] in self.tensors:
            return None
        if node.op_type == "Gemm":
            return self._gemm(node, weights)
        is_matrix = weights.ndim == 2 and len(self.shapes.get(node.input[0], ())) > 1
        if node.op_type == "MatMul" and not is_matrix:
            return None
        return self._continued(_Chain([node], _of_four(weights), _zeros(weights)))

    def _gemm(self, node: onnx.NodeProto, weights: np.ndarray) -> _Chain | None:
        given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | _attributes(node)
        if given["alpha"] != 1 or given["beta"] != 1 or given["transA"]:
            return None
        weights = weights.T if given["transB"] else weights
        bias = _zeros(weights)
        if len(node.input) > 2 and node.input[2]:
            array = self.constant(node.input[2])
            if array is None or not _is_of_outputs(array, bias.size):
                return None
            bias = bias + array.reshape(-1)
        return self._continued(_Chain([node], _of_four(weights), bias))

    def _continued(self, chain: _Chain) -> _Chain:
        while (step := self._step(chain)) is not None:
            chain.nodes.append(step)
        return chain

    def _step(self, chain: _Chain) -> onnx.NodeProto | None:
        """The next node where it can be taken in; what it does is noted in the chain."""
        name = chain.nodes[-1].output[0]
        shape, node = self.shapes.get(name), self.only_reader(name)
        if node is None or node.domain or chain.residual:
            return None
        if shape is None or self.shapes.get(node.output[0]) != shape:
            return None
        if node.op_type == "Relu" and not chain.bend:
            chain.bend = "relu"
            return node
        if node.op_type == "PRelu" and not chain.bend and node.input[0] == name:
            slope = self.constant(node.input[1])
            if slope is None or slope.min() != slope.max() or slope.max() > 1:
                return None
            chain.slope = float(slope.max())
            chain.bend = "prelu" if chain.slope else "relu"  # 0·∞ is no number
            return node
        if node.op_type == "Add":
            other = node.input[1 - list(node.input).index(name)]
            array = self.constant(other)
            if array is not None and not chain.bend and _is_of_outputs(array, chain.bias.size):
                chain.bias = chain.bias + array.reshape(-1)
                return node
            if array is None and self.shapes.get(other) == shape:
                chain.residual = other
                return node
        return None

    def merge(self, chain: _Chain) -> None:
        """Let the last node of a chain compute it all, and remove the others."""
        layer, last = chain.nodes[0], chain.nodes[-1]
        inputs = [layer.input[0], self._add(layer, "weights", chain.weights)]
        inputs.append(self._add(layer, "bias", chain.bias))
        if chain.bend == "prelu":
            inputs.append(self._add(layer, "slope", np.array([chain.slope])))
        inputs += [chain.residual] * bool(chain.residual)
        given = _attributes(layer)
        axes = 2 if layer.op_type == "FloatConv2d" else 1
        window = {"strides": [1], "pads": [0, 0], "dilations": [1]} | given
        strides, dilations = ([*[1] * (2 - axes), *window[n]] for n in ("strides", "dilations"))
        begin, end = window["pads"][:axes], window["pads"][axes:]
        pads = [*[0] * (2 - axes), *begin, *[0] * (2 - axes), *end]
        merged = onnx.helper.make_node(
            FLOAT_LAYER,
            inputs,
            last.output,
            layer.name,
            domain=DOMAIN,
            group=given.get("group", 1),
            strides=strides,
            pads=pads,
            dilations=dilations,
            bend=chain.bend,
            residual=int(bool(chain.residual)),
        )
        for node in chain.nodes[:-1]:
            self.graph.node.remove(node)
        last.CopyFrom(merged)

    def _add(self, layer: onnx.NodeProto, what: str, array: np.ndarray) -> str:
        name = f"{FLOAT_LAYER}/{layer.output[0]}/{what}"
        array = np.ascontiguousarray(array, np.float32)
        self.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name


def _of_four(weights: np.ndarray) -> np.ndarray:
    """(k, C, O) or (C, O) with the axes of two windows."""
    return weights.reshape((1,) * (4 - weights.ndim) + weights.shape)


def _zeros(weights: np.ndarray) -> np.ndarray:
    return np.zeros(weights.shape[-1], np.float32)


def _is_of_outputs(array: np.ndarray, outputs: int) -> bool:
    """Whether it has one number for every output, along the last axis, or one for all."""
    return array.size == 1 or (array.shape[-1] == outputs == array.size)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
