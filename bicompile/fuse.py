"""Ops of the domain that are computed by one kernel → one node, before they are lowered."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from bicompile.nodes import Nodes
from bicompile.ops import DOMAIN

LAYERS = ("BinaryLinear", "BinaryConv1d", "BinaryConv2d")
EPILOGUES = ("Epilogue", "DualEpilogue")

SIGNS = "IntegerThreshold"
"""What follows a layer of which only signs are used."""

DUAL_DEPTHWISE = "DualDepthwise"
"""x, framed by zeros, binarized to two planes with a scale for every channel, convolved, finished.

Inputs: x (1, F, C), thresholds, shift, second thresholds, weights, multiplier, shift, slope;
attributes: pads, greater, greater2, residual (1 where x is added).
"""

ONE_CHANNEL = "OneChannel"
"""A float convolution of one channel, PReLU of one slope up to 1, and channels moved to the end.

Inputs: x (1, 1, H, W), weights, bias, slope; attributes: strides, pads.
"""


def fused_op(layer: str, epilogue: str) -> str:
    """The op of a layer with its epilogue; it stands only between here and the importer."""
    return layer + epilogue


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merge every layer into the epilogue, or the threshold, that alone reads its accumulator.

    The inputs are the layer's, then the epilogue's but for the accumulator; name and attributes
    are the layer's. Bits in groups must fill whole bytes, so that they lie as without. A depthwise
    layer of two planes takes its binarization in too, and a float convolution of one channel
    becomes one node with what follows.
    """
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = _Graph(fused.graph)
    for node in list(fused.graph.node):
        if node.op_type == "Transpose":
            graph.merge_one_channel(node)
        if node.domain != DOMAIN or node.op_type not in (*EPILOGUES, SIGNS):
            continue
        if node.op_type == SIGNS and not graph.fills_bytes(node):
            continue
        layer = graph.only_read(node.input[0], *LAYERS)
        if layer is None or graph.merge_depthwise(node, layer):
            continue
        inputs = [*layer.input, *node.input[1:]]
        op_type = fused_op(layer.op_type, node.op_type)
        graph.become(node, op_type, layer.name, inputs, _attributes(layer))
    graph.remove_unread()
    return fused


class _Graph(Nodes):
    """Looks at a graph of nodes and rewrites one in place."""

    def become(
        self,
        node: onnx.NodeProto,
        op_type: str,
        name: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> None:
        """Let the node compute its output by another op."""
        other = onnx.helper.make_node(
            op_type, inputs, node.output, name, domain=DOMAIN, **attributes
        )
        node.CopyFrom(other)

    def fills_bytes(self, signs: onnx.NodeProto) -> bool:
        """Whether the channels of every group of a SIGNS are whole bytes, or all are one group."""
        direction = self.constant(signs.input[1])
        group = int(_attributes(signs)["group"])
        return group == 1 or (direction is not None and direction.size // group % 8 == 0)

    def remove_unread(self) -> None:
        """Remove the nodes that nothing reads any more."""
        needed = {value.name for value in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))

    def merge_depthwise(self, epilogue: onnx.NodeProto, layer: onnx.NodeProto) -> bool:
        """Make a node of DUAL_DEPTHWISE of an epilogue, if that and its layer are one."""
        binarizer = self.only_read(layer.input[0], "DualScale")
        weights = self.constant(layer.input[1])
        _, scale, *constants, residual = epilogue.input
        if layer.op_type != "BinaryConv1d" or binarizer is None or weights is None:
            return False
        channels = len(weights)
        if binarizer.output[1] != scale or self.times_read(scale) != 1:
            return False
        if _attributes(layer) != {**_DEPTHWISE, "group": channels}:
            return False
        given = _attributes(binarizer)
        padded = self.only_read(binarizer.input[0], "Pad", domain="")
        pads = (0, 0) if padded is None else self._pads(padded)
        x = binarizer.input[0] if padded is None else padded.input[0]
        shape = self.shapes.get(x, ())
        if pads is None or given["axes"] != [1] or given["group"] != channels:
            return False
        if len(shape) != 3 or shape[0] != 1 or not 0 < shape[1] <= _MOST_FRAMES:
            return False
        arrays = [self.constant(name) for name in constants]
        if any(array is None or array.size not in (1, channels) for array in arrays):
            return False
        slope, rest = arrays[2], self.constant(residual)
        if slope is None or slope.size > 1 or slope.max() > 1:
            return False
        if residual != x and (rest is None or rest.any()):
            return False
        attributes = {name: given[name] for name in ("greater", "greater2")}
        attributes |= {"pads": pads, "residual": int(residual == x)}
        inputs = [x, *binarizer.input[1:], layer.input[1], *constants]
        self.become(epilogue, DUAL_DEPTHWISE, layer.name, inputs, attributes)
        return True

    def merge_one_channel(self, transpose: onnx.NodeProto) -> None:
        """Make a node of ONE_CHANNEL of a transpose, if it ends one."""
        bent = self.only_read(transpose.input[0], "PRelu", domain="")
        layer = bent and self.only_read(bent.input[0], "Conv", domain="")
        if bent is None or layer is None or len(layer.input) < 3:
            return
        weights, bias, slope = map(self.constant, (*layer.input[1:], bent.input[1]))
        attributes = {"group": 1, "auto_pad": b"NOTSET", "dilations": [1, 1], "strides": [1, 1]}
        attributes |= {"pads": [0] * 4} | _attributes(layer)
        if weights is None or bias is None or slope is None or slope.size > 1 or slope.max() > 1:
            return
        is_plain = attributes["auto_pad"] == b"NOTSET" and attributes["dilations"] == [1, 1]
        if weights.ndim != 4 or weights.shape[1] != 1 or attributes["group"] != 1 or not is_plain:
            return
        shape = self.shapes.get(layer.input[0], ())
        if _attributes(transpose).get("perm") != [0, 2, 3, 1] or shape[:1] != (1,):
            return
        given = {name: attributes[name] for name in ("strides", "pads")}
        inputs = [*layer.input, bent.input[1]]
        self.become(transpose, ONE_CHANNEL, layer.name, inputs, given)

    def _pads(self, node: onnx.NodeProto) -> tuple[int, int] | None:
        """Zeros before and after the middle one of three axes, where there are no others."""
        pads = self.constant(node.input[1])
        fill = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        is_zero = len(node.input) < 3 or not node.input[2] or (fill is not None and not fill.any())
        mode = _attributes(node).get("mode", b"constant")
        if pads is None or len(node.input) > 3 or mode != b"constant" or not is_zero:
            return None
        if pads.size != 6 or pads[[0, 2, 3, 5]].any() or (pads < 0).any():
            return None
        return int(pads[1]), int(pads[4])


_DEPTHWISE = {"channels": 1, "strides": [1], "pads": [0, 0], "border": 0, "dilations": [1]}

_MOST_FRAMES = 8
"""A longer depthwise layer is computed step by step: its frames do not fit the registers."""


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
