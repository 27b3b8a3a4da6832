"""Σ over k of (Σᵢ sᵢ·bᵢ + c)·σ·w → σ·Σᵢ sᵢ·(bᵢ·w) + c·σw, with every bᵢ·w a popcount of bits.

For b, w ∈ {±1}^K packed as bits, b·w = K − 2·popcount(b xor w). Scales come out of the sum only
where they are constant along it, so the conditions are, in the order checked:

1. the weights are constant float32, and those of one output are ±1 times one scale (see
   binary_weights);
2. the layer is a product with one matrix on either side, a convolution over one or two axes, of
   any groups, or one of kernel 1 that moves nothing (see layer);
3. the bias, where there is one, is constant;
4. the input is a sum of ±1 tensors with scales and finite constants (see binary_sum);
5. every scale sᵢ is constant along what one sum takes in: channels of a group, and those axes of
   positions along which the window moves or sees more than one. A depthwise sum takes in one
   channel, so a scale for every channel comes out of it.

A layer that fails one stays as it is, and its node says which under `bicompile.decision`.

Zero padding of a convolution, its own or a Pad before it, adds nothing to any term: the binary ops
sum over what is inside, and c·σw is computed per output position. A Pad of one ±f·sign with +f or
−f becomes padding with the bit of that sign. A threshold that is not one
number per channel, or makes its tensor larger, is subtracted first: x ≥ θ exactly where x − θ ≥ 0,
since the difference of two different floats is never rounded to zero.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from bicompile.ops import DOMAIN, pack_bits
from bicompile.passes.binary_sum import (
    BinarySum,
    NotBinaryError,
    Sign,
    Term,
    constant_along,
    read_binary_sum,
)
from bicompile.passes.binary_weights import WeightsVaryError, read_binary_weights
from bicompile.passes.constant_part import constant_part
from bicompile.passes.graph import (
    BINARY,
    DECISION,
    FLOAT,
    LAYER,
    LOOKS_BINARY,
    Builder,
    constant,
    names_in,
    produced_by,
    shape_of,
)
from bicompile.passes.graph import replace as replace_node
from bicompile.passes.layer import LAYERS, Layer, constant_padding, read_layer, weights_of


def binary_layers(model: ir.Model) -> None:
    """Apply the rewrite of this file to every layer, and note every decision on its node."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], *LAYERS) is None:
            continue
        kind = FLOAT
        try:
            weights = read_binary_weights(weights_of(node))
            kind = LOOKS_BINARY
            layer = read_layer(node, weights)
            layer, activation = _with_border(layer, read_binary_sum(layer.x))
            _check_scales(layer, activation)
        except WeightsVaryError as found:
            node.metadata_props[DECISION] = f"{kind}: {_why_weights(node, found)}"
        except NotBinaryError as reason:
            node.metadata_props[DECISION] = f"{kind}: {reason}"
        else:
            replace_node(node, _Rewrite(layer, Builder(node, names)).output(activation))


def _why_weights(node: ir.Node, found: WeightsVaryError) -> str:
    """Weights that vary are real, unless the input is binary: then their scale varies."""
    for value in node.inputs[:2]:
        try:
            read_binary_sum(value)
        except NotBinaryError:
            continue
        return (
            f"the weight scale of {node.name or node.op_type} varies along the reduction: "
            f"{found.distinct} distinct values per output; a popcount cannot factor it"
        )
    return str(found)


def _with_border(layer: Layer, activation: BinarySum) -> tuple[Layer, BinarySum]:
    """The layer without the Pad before it, where that puts bits around bits."""
    padding = constant_padding(layer.x)
    if padding is None or layer.window is None or any(layer.window.pads):
        return layer, activation
    try:
        inside = read_binary_sum(padding.x)
    except NotBinaryError:
        return layer, activation
    term = inside.terms[0]
    if len(inside.terms) > 1 or inside.constants or term.scale is not None:
        return layer, activation
    if abs(padding.value) != abs(term.factor):
        return layer, activation
    border = 1 if padding.value == term.factor else -1
    window = replace(layer.window, pads=padding.pads, border=border)
    return replace(layer, x=padding.x, window=window), inside


def _check_scales(layer: Layer, activation: BinarySum) -> None:
    for term in activation.terms:
        if not constant_along(term.scale, layer.summed_axes):
            assert term.scale is not None
            raise NotBinaryError(
                f"the scale {term.scale.name} of shape {shape_of(term.scale)} varies along what "
                "it sums over; a popcount cannot factor it"
            )


class _Rewrite:
    """Builds the right-hand side for one layer, channels-last until the end."""

    def __init__(self, layer: Layer, build: Builder) -> None:
        self._layer, self._build = layer, build
        self._group = 1 if layer.window is None else layer.window.group
        signs = layer.weights.signs
        if layer.window is None:
            signs = signs.reshape(layer.outputs, layer.channels)
        self._packed = build.constant("weights", pack_bits(signs))

    def output(self, activation: BinarySum) -> ir.Value:
        """What replaces the layer's output."""
        layer, build = self._layer, self._build
        shape = layer.result_shape
        assumed = (term.sign.assumed for term in activation.terms)
        self._assumed = next(filter(None, assumed), "")
        total: ir.Value | None = None
        for term in activation.terms:
            product = self._scaled(self._product(term.sign), term)
            total = product if total is None else build.node("Add", [total, product], shape)
        assert total is not None
        scale = layer.weights.scale
        if (scale != 1).any():
            factor = scale[:1].reshape(()) if (scale == scale[0]).all() else scale
            total = self._with("Mul", total, "weight_scale", factor, label="Weighted")
        shift = np.zeros(1) if layer.bias is None else layer.bias
        if activation.constants:
            shift = shift + constant_part(layer, activation.constants)
        if activation.constants or layer.bias is not None:
            total = self._with("Add", total, "shift", shift, label="Shifted")
        return self._as_before(total)

    def _with(self, op: str, total: ir.Value, name: str, array: np.ndarray, label: str) -> ir.Value:
        with np.errstate(over="ignore"):  # what overflows is infinite, as the sum of it was before
            operand = self._build.constant(name, array.astype(np.float32))
        return self._build.node(op, [total, operand], self._layer.result_shape, label=label)

    def _scaled(self, product: ir.Value, term: Term) -> ir.Value:
        if term.factor != 1:
            product = self._with("Mul", product, "factor", np.array(term.factor), "Multiplied")
        if term.scale is None:
            return product
        scale = self._channels_last(term.scale, "ScaleLast")
        shape = self._layer.result_shape
        outputs = self._layer.outputs
        if 1 < shape_of(scale)[-1] < outputs:  # depthwise, several outputs for every channel
            channel = np.arange(outputs) * shape_of(scale)[-1] // outputs
            scale = self._build.node(
                "Gather",
                [scale, self._build.constant("channel", channel)],
                (*shape_of(scale)[:-1], outputs),
                label="ScalePerOutput",
                axis=-1,
            )
        return self._build.node("Mul", [product, scale], shape, label="Scaled")

    def _product(self, sign: Sign) -> ir.Value:
        """b·w as float32."""
        layer, build = self._layer, self._build
        x, threshold = self._with_channel_threshold(sign)
        x = self._channels_last(x, "ChannelsLast")
        *positions, channels = shape_of(x)
        row_bytes = self._group * -(-channels // self._group // 8)
        bits = build.node(
            "Threshold",
            [x, build.constant("threshold", threshold)],
            (*positions, row_bytes),
            ir.DataType.UINT8,
            domain=DOMAIN,
            greater=int(sign.greater),
            group=self._group,
        )
        attributes: dict[str, Any] = {"channels": layer.channels}
        op = "BinaryLinear"
        if layer.window is not None:
            op = f"BinaryConv{len(layer.kernel)}d"
            attributes |= vars(layer.window)
        decision = f"{BINARY}: {op}, {layer.products} products a sum"
        if self._assumed:
            decision += f", {self._assumed}"
        product = build.node(
            op,
            [bits, self._packed],
            layer.result_shape,
            ir.DataType.INT32,
            domain=DOMAIN,
            metadata={DECISION: decision, LAYER: layer.node.name or layer.node.op_type},
            **attributes,
        )
        return build.node("Cast", [product], layer.result_shape, to=ir.DataType.FLOAT)

    def _with_channel_threshold(self, sign: Sign) -> tuple[ir.Value, np.ndarray]:
        """A tensor as large as the layer's input and its (C,) thresholds."""
        x, shape, perm = sign.x, shape_of(self._layer.x), self._layer.perm
        rank = len(shape)
        theta = sign.theta.reshape((1,) * (rank - sign.theta.ndim) + sign.theta.shape)
        channels = shape[perm[-1]]
        last = theta.transpose(perm)
        if shape_of(x) == shape and last.size == last.shape[-1]:
            return x, np.broadcast_to(last.reshape(-1), (channels,)).astype(np.float32)
        present = (1,) * (rank - len(shape_of(x))) + shape_of(x)
        full = [
            size if here != size else there
            for size, here, there in zip(shape, present, theta.shape, strict=True)
        ]
        operand = self._build.constant("thresholds", np.broadcast_to(theta, full))
        return self._build.node("Sub", [x, operand], shape), np.zeros(channels, np.float32)

    def _channels_last(self, value: ir.Value, label: str) -> ir.Value:
        """A tensor that broadcasts against the layer's input, its axes in channels-last order."""
        perm, rank = self._layer.perm, len(self._layer.perm)
        array = constant(value)
        if array is not None:
            array = array.reshape((1,) * (rank - array.ndim) + array.shape)
            return self._build.constant(label, array.transpose(perm))
        shape = (1,) * (rank - len(shape_of(value))) + shape_of(value)
        if shape != shape_of(value):
            wanted = self._build.constant("shape", np.array(shape, np.int64))
            value = self._build.node("Reshape", [value, wanted], shape)
        if perm == tuple(range(rank)):
            return value
        last = [shape[axis] for axis in perm]
        return self._build.node("Transpose", [value], last, label=label, perm=perm)

    def _as_before(self, total: ir.Value) -> ir.Value:
        """The result in the shape of the node's output."""
        layer, build = self._layer, self._build
        shape = [layer.result_shape[axis] for axis in layer.back]
        if layer.back != tuple(range(len(shape))):
            total = build.node("Transpose", [total], shape, label="Back", perm=layer.back)
        output = shape_of(layer.node.outputs[0])
        if tuple(shape) != output:
            wanted = build.constant("output_shape", np.array(output, np.int64))
            total = build.node("Reshape", [total, wanted], output, label="Reshaped")
        return total
