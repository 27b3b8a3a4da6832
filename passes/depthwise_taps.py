"""Depthwise convolution → Σ over taps k of w_k · x[…, k·d : k·d + L, …] + bias.

The taps of a depthwise convolution never mix channels, so it is elementwise arithmetic on shifted
views of its (padded) input, in any layout; a convolution nest would sum five products one by one.

Conditions: one input channel and one output channel a group, stride 1, explicit pads that are not
negative, constant float32 weights, at most 16 taps. Anything else is left as it is.
"""

from itertools import product

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    DECISION,
    LAYER,
    Builder,
    constant,
    ints,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)

_MOST_TAPS = 16


def depthwise_taps(model: ir.Model) -> None:
    """Apply the rewrite of this file to every depthwise convolution."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "Conv") is not None and _is_depthwise(node):
            _rewrite(node, Builder(node, names))


def _is_depthwise(node: ir.Node) -> bool:
    x, weights = node.inputs[0], constant(node.inputs[1])
    if x is None or weights is None or not is_float32(x):
        return False
    kernel = weights.shape[2:]
    group, auto_pad = node.attributes.get("group"), node.attributes.get("auto_pad")
    channels = shape_of(x)[1]
    return (
        weights.shape[:2] == (channels, 1)
        and (1 if group is None else group.as_int()) == channels
        and (auto_pad is None or auto_pad.as_string() == "NOTSET")
        and all(stride == 1 for stride in ints(node, "strides", [1]))
        and min(ints(node, "pads", [0])) >= 0
        and int(np.prod(kernel)) <= _MOST_TAPS
        and (len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None)
    )


def _rewrite(node: ir.Node, build: Builder) -> None:
    x, weights = node.inputs[0], constant(node.inputs[1])
    assert x is not None
    assert weights is not None
    kernel = weights.shape[2:]
    axes = list(range(2, 2 + len(kernel)))
    pads = ints(node, "pads", [0] * 2 * len(kernel))
    dilations = ints(node, "dilations", [1] * len(kernel))
    output = shape_of(node.outputs[0])
    if any(pads):
        half = len(kernel)
        all_pads = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        shape = [size + all_pads[i] + all_pads[i + half + 2] for i, size in enumerate(shape_of(x))]
        x = build.node("Pad", [x, build.constant("pads", np.array(all_pads, np.int64))], shape)
    total: ir.Value | None = None
    for tap in product(*map(range, kernel)):
        start = [at * dilation for at, dilation in zip(tap, dilations, strict=True)]
        end = [at + size for at, size in zip(start, output[2:], strict=True)]
        bounds = [
            build.constant(label, np.array(numbers, np.int64))
            for label, numbers in (("starts", start), ("ends", end), ("axes", axes))
        ]
        seen = build.node("Slice", [x, *bounds], output)
        of_channel = np.moveaxis(weights[:, 0], 0, -1)[tap]
        weight = of_channel.reshape(1, -1, *[1] * len(kernel))
        term = build.node("Mul", [seen, build.constant("tap", weight)], output)
        total = term if total is None else build.node("Add", [total, term], output)
    assert total is not None
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        shift = build.constant("bias", bias.reshape(1, -1, *[1] * len(kernel)))
        total = build.node("Add", [total, shift], output, label="Biased")
    last = total.producer()
    assert last is not None
    last.metadata_props[DECISION] = node.metadata_props.get(DECISION, "")
    last.metadata_props[LAYER] = node.name or node.op_type
    replace(node, total)
