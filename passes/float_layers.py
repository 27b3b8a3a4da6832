"""conv(x, w) + b → transpose(FloatConv(transpose(x), w′) + b): float layers are channels-last too.

What stays float beside binary layers, and a network that is float, has no other order of its axes
then, so that the transposes on both sides meet others and cancel (see channels_last). w′ is w with
its axes in another order. Each sum has the same terms, which may be added in another order.

Conditions: a float32 Conv over one or two axes, of one example and constant weights and bias,
without auto_pad; its group is 1 and it has more than one channel, or it is depthwise with an output
a channel. Anything else is left as it is: an image of one channel is the same in both orders.
"""

import numpy as np
import onnx_ir as ir

from bicompile.ops import DOMAIN
from bicompile.passes.graph import (
    Builder,
    constant,
    ints,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)

_OPS = {1: "FloatConv1d", 2: "FloatConv2d"}


def float_layers(model: ir.Model) -> None:
    """Apply the rewrite of this file to every convolution."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "Conv") is None or not is_float32(node.outputs[0]):
            continue
        x, weights = node.inputs[0], constant(node.inputs[1])
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if x is None or weights is None or weights.ndim - 2 not in _OPS:
            continue
        if bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
            continue
        if _is_accepted(node, shape_of(x), weights.shape):
            _rewrite(node, x, weights, bias, Builder(node, names))


def _group(node: ir.Node) -> int:
    group = node.attributes.get("group")
    return 1 if group is None else group.as_int()


def _is_accepted(node: ir.Node, shape: tuple[int, ...], weights: tuple[int, ...]) -> bool:
    auto_pad = node.attributes.get("auto_pad")
    if shape[0] != 1 or (auto_pad is not None and auto_pad.as_string() != "NOTSET"):
        return False
    channels, group = shape[1], _group(node)
    return channels > 1 and group in (1, channels) and (group == 1 or weights[0] == channels)


def _rewrite(
    node: ir.Node, x: ir.Value, weights: np.ndarray, bias: np.ndarray | None, build: Builder
) -> None:
    output = shape_of(node.outputs[0])
    axes = len(output) - 2
    perm = (0, *range(2, axes + 2), 1)
    back = (0, axes + 1, *range(1, axes + 1))
    shape = shape_of(x)
    last = build.node("Transpose", [x], [shape[axis] for axis in perm], perm=perm)
    moved = build.constant("weights", np.moveaxis(weights, (0, 1), (-1, -2)))
    result = [output[axis] for axis in perm]
    y = build.node(
        _OPS[axes],
        [last, moved],
        result,
        domain=DOMAIN,
        metadata=dict(node.metadata_props),
        group=_group(node),
        strides=ints(node, "strides", [1] * axes),
        pads=ints(node, "pads", [0] * 2 * axes),
        dilations=ints(node, "dilations", [1] * axes),
    )
    layer = y.producer()
    assert layer is not None
    if bias is not None:
        y = build.node("Add", [y, build.constant("bias", bias)], result)
    replace(node, build.node("Transpose", [y], output, perm=back))
    layer.name = node.name
