"""Σ over k of (Σᵢ sᵢ·bᵢ + c)·w → Σᵢ sᵢ·(bᵢ·w) + c·w, with every bᵢ·w a popcount of packed bits.

For b, w ∈ {±1}^K packed as bits, b·w = K − 2·popcount(b xor w). The scales come out of the sum only
where they are constant along it, so the conditions are, in the order checked:

1. the weights are constant float32 and every one of them is +1 or −1;
2. the layer is a MatMul with a matrix, a 1x1 or 2-d convolution of one group, or a Gemm;
3. the bias, where there is one, is constant;
4. the input is a sum of ±1 tensors with scales and finite constants (see binary_sum);
5. none of the ±1 tensors was broadcast after its comparison;
6. every scale is constant along what the layer sums over;
7. every threshold is one number per channel.

A layer that fails one stays as it is, and its node says which under `bicompile.decision`. Zero
padding of a convolution adds nothing to any term: BinaryConv2d sums over what is inside, and c·w
is computed per output position.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bicompile.ops import DOMAIN, pack_bits
from bicompile.passes.binary_sum import (
    NotBinaryError,
    Sign,
    constant_along,
    read_binary_sum,
)
from bicompile.passes.graph import (
    BINARY,
    DECISION,
    FLOAT,
    LAYER,
    LOOKS_BINARY,
    Builder,
    constant,
    ints,
    names_in,
    produced_by,
    replace,
    shape_of,
)


@dataclass(frozen=True)
class _Layer:
    """A layer as the conditions see it; `perm` brings its input to channels-last."""

    node: ir.Node
    weights: np.ndarray
    """(O, …, C): channels last."""
    perm: tuple[int, ...]
    bias: np.ndarray | None
    """Shaped to broadcast against the output."""

    @property
    def channels(self) -> int:
        return int(self.weights.shape[-1])

    @property
    def is_linear(self) -> bool:
        """Whether every output position sees one input position."""
        strides, pads, _ = self.window
        unmoved = all(stride == 1 for stride in strides) and not any(pads)
        return math.prod(self.weights.shape[1:-1]) == 1 and unmoved

    @property
    def window(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Strides, pads and dilations; empty for a matmul."""
        if self.node.op_type != "Conv":
            return (), (), ()
        rank = self.weights.ndim - 2
        strides = ints(self.node, "strides", [1] * rank)
        pads = ints(self.node, "pads", [0] * 2 * rank)
        return strides, pads, ints(self.node, "dilations", [1] * rank)

    @property
    def summed_axes(self) -> tuple[int, ...]:
        """Axes of the input (negative) along which a scale must be constant."""
        rank = len(self.perm)
        if self.node.op_type != "Conv":
            return (-1,)
        return (1 - rank,) if self.is_linear else tuple(range(1 - rank, 0))


def binary_layers(model: ir.Model) -> None:
    """Apply the rewrite of this file to every layer, and note every decision on its node."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "Conv", "ConvTranspose", "MatMul", "Gemm") is None:
            continue
        kind = FLOAT
        try:
            weights = _read_weights(node)
            kind = LOOKS_BINARY
            _rewrite(_read_layer(node, weights), names)
        except NotBinaryError as reason:
            node.metadata_props[DECISION] = f"{kind}: {reason}"


def _read_weights(node: ir.Node) -> np.ndarray:
    weights = constant(node.inputs[1])
    if weights is None:
        raise NotBinaryError("its weights are not constant")
    if weights.dtype != np.float32:
        raise NotBinaryError(f"its weights are {weights.dtype}, float32 is needed")
    if not weights.size or not (np.abs(weights) == 1).all():
        raise NotBinaryError(_weights_found(weights))
    return weights


def _read_layer(node: ir.Node, weights: np.ndarray) -> _Layer:
    assert node.inputs[0] is not None
    rank = len(shape_of(node.inputs[0]))
    bias = _read_bias(node, trailing=rank - 2 if node.op_type == "Conv" else 0)
    if node.op_type == "ConvTranspose":
        raise NotBinaryError("a transposed convolution has no binary kernel")
    if node.op_type == "Conv":
        group = node.attributes.get("group")
        if group is not None and group.as_int() != 1:
            raise NotBinaryError(
                f"it has {group.as_int()} groups, so a sum has only "
                f"{math.prod(weights.shape[1:])} products: float arithmetic with ±1 weights"
            )
        auto_pad = node.attributes.get("auto_pad")
        if auto_pad is not None and auto_pad.as_string() != "NOTSET":
            raise NotBinaryError(f"its padding is {auto_pad.as_string()}, explicit pads are needed")
        kernel = weights.shape[2:]
        if len(kernel) != 2 and math.prod(kernel) != 1:
            raise NotBinaryError(
                f"its kernel is {'x'.join(map(str, kernel))}, 1x1 and 2-d are known"
            )
        layer = _Layer(node, np.moveaxis(weights, 1, -1), (0, *range(2, rank), 1), bias)
        if len(kernel) != 2 and not layer.is_linear:
            raise NotBinaryError("only 2-d convolutions may have strides or pads")
        if min(layer.window[1]) < 0:
            raise NotBinaryError("its padding is negative")
        return layer
    if weights.ndim != 2:
        raise NotBinaryError(f"its weights have {weights.ndim} axes, a matrix is needed")
    transposed = False
    if node.op_type == "Gemm":
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if any(
            float(node.attributes[n].value) != v for n, v in plain.items() if n in node.attributes
        ):
            raise NotBinaryError("its alpha, beta or transA is not the default")
        transposed = "transB" in node.attributes and bool(node.attributes["transB"].as_int())
    rows = weights if transposed else weights.T
    return _Layer(node, rows, tuple(range(rank)), bias)


def _weights_found(weights: np.ndarray) -> str:
    values = np.unique(weights)
    if values.size <= 3:
        found = ", ".join(f"{v:g}" for v in values) or "none"
        return f"its weights are {found}, ±1 is needed"
    return f"its weights take {values.size} values, ±1 is needed"


def _read_bias(node: ir.Node, *, trailing: int) -> np.ndarray | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = constant(node.inputs[2])
    if bias is None:
        raise NotBinaryError("its bias is not constant")
    return bias.reshape((*bias.shape, *[1] * trailing))


def _rewrite(layer: _Layer, names: set[str]) -> None:
    node = layer.node
    activation = read_binary_sum(node.inputs[0])
    assert node.inputs[0] is not None
    shape = shape_of(node.inputs[0])
    for term in activation.terms:
        sign, scale = term.sign, term.scale
        if shape_of(sign.x) != shape:
            raise NotBinaryError(
                f"{sign.x.name} of shape {shape_of(sign.x)} was broadcast to {shape}; compare the "
                "whole tensor"
            )
        if not constant_along(scale, layer.summed_axes):
            assert scale is not None
            raise NotBinaryError(
                f"the scale {scale.name} of shape {shape_of(scale)} varies along what it sums "
                "over; a popcount cannot factor it"
            )
    thresholds = [_per_channel(term.sign, layer) for term in activation.terms]
    build = Builder(node, names)
    packed = build.constant("weights", pack_bits(layer.weights.reshape(_weight_shape(layer))))
    result_shape = shape_of(node.outputs[0])
    total: ir.Value | None = None
    for term, threshold in zip(activation.terms, thresholds, strict=True):
        product = _product(build, layer, term.sign, threshold, packed)
        if term.factor != 1:
            factor = build.constant("factor", np.array(term.factor, np.float32))
            product = build.node("Mul", [product, factor], result_shape, label="Multiplied")
        if term.scale is not None:
            product = build.node("Mul", [product, term.scale], result_shape, label="Scaled")
        total = product if total is None else build.node("Add", [total, product], result_shape)
    assert total is not None
    if activation.constants:
        shift = build.constant("shift", _constant_part(layer, activation.constants))
        total = build.node("Add", [total, shift], result_shape, label="Shifted")
    if layer.bias is not None:
        bias = build.constant("bias", layer.bias)
        total = build.node("Add", [total, bias], result_shape, label="Biased")
    replace(node, total)


def _weight_shape(layer: _Layer) -> tuple[int, ...]:
    return (layer.weights.shape[0], layer.channels) if layer.is_linear else layer.weights.shape


def _per_channel(sign: Sign, layer: _Layer) -> np.ndarray:
    """The threshold as (C,), where it varies along no other axis of the input."""
    rank = len(layer.perm)
    theta = sign.theta.reshape((1,) * (rank - sign.theta.ndim) + sign.theta.shape)
    last = theta.transpose(layer.perm)
    if math.prod(last.shape[:-1]) != 1:
        raise NotBinaryError(
            f"the threshold of {sign.x.name} has shape {sign.theta.shape}, one number per channel "
            "is needed"
        )
    return np.ascontiguousarray(np.broadcast_to(last.reshape(-1), (layer.channels,)), np.float32)


def _product(
    build: Builder, layer: _Layer, sign: Sign, threshold: np.ndarray, packed: ir.Value
) -> ir.Value:
    """b·w of one term as float, in the layout of the layer's output."""
    x, perm = sign.x, layer.perm
    shape = tuple(shape_of(x)[axis] for axis in perm)
    moved = perm != tuple(range(len(perm)))
    if moved:
        x = build.node("Transpose", [x], shape, label="ChannelsLast", perm=perm)
    bits = build.node(
        "Threshold",
        [x, build.constant("threshold", threshold)],
        (*shape[:-1], -(-shape[-1] // 8)),
        ir.DataType.UINT8,
        domain=DOMAIN,
        greater=int(sign.greater),
    )
    output = shape_of(layer.node.outputs[0])
    output_shape = tuple(output[axis] for axis in perm)
    strides, pads, dilations = layer.window
    attributes: dict[str, Any] = {"channels": layer.channels}
    if not layer.is_linear:
        attributes |= {"strides": strides, "pads": pads, "dilations": dilations}
    op = "BinaryLinear" if layer.is_linear else "BinaryConv2d"
    decision = f"{BINARY}: {op}, {math.prod(layer.weights.shape[1:])} products a sum"
    product = build.node(
        op,
        [bits, packed],
        output_shape,
        ir.DataType.INT32,
        domain=DOMAIN,
        metadata={DECISION: decision, LAYER: layer.node.name or layer.node.op_type},
        **attributes,
    )
    product = build.node("Cast", [product], output_shape, to=ir.DataType.FLOAT)
    if moved:
        back = tuple(np.argsort(perm).tolist())
        product = build.node("Transpose", [product], output, label="ChannelsFirst", perm=back)
    return product


def _constant_part(layer: _Layer, constants: list[np.ndarray]) -> np.ndarray:
    """c·w for every output position, (…, O at the channel axis), summed in float64."""
    x = layer.node.inputs[0]
    assert x is not None
    rank = len(layer.perm)
    total = sum((c.astype(np.float64) for c in constants), np.zeros((1,) * rank))
    if layer.is_linear and _constant_along_positions(total, layer):
        # One number per output channel is enough: the same at every position.
        c = np.broadcast_to(total.transpose(layer.perm), (1,) * (rank - 1) + (layer.channels,))
    else:
        c = np.broadcast_to(total, shape_of(x)).transpose(layer.perm)
    outputs = layer.weights.shape[0]
    if layer.is_linear:
        product = c @ layer.weights.reshape(outputs, layer.channels).T
    else:
        product = _convolve(c, layer)
    return np.ascontiguousarray(product.transpose(np.argsort(layer.perm)), np.float32)


def _constant_along_positions(c: np.ndarray, layer: _Layer) -> bool:
    """Whether c varies along channels only."""
    return math.prod(c.transpose(layer.perm).shape[:-1]) == 1


def _convolve(c: np.ndarray, layer: _Layer) -> np.ndarray:
    """Plain convolution of (1, H, W, C) with zero padding, in float64: → (1, H', W', O)."""
    (sh, sw), (top, left, bottom, right), (dh, dw) = layer.window
    padded = np.pad(c, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, kh, kw, _ = layer.weights.shape
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(1, 2)
    )[:, ::sh, ::sw, :, ::dh, ::dw]
    result: np.ndarray = np.einsum("nhwcij,oijc->nhwo", windows, layer.weights.astype(np.float64))
    return result
