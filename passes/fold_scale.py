"""(Σ over k of x[k]·w[k, n])·s[n] → Σ over k of x[k]·(w[k, n]·s[n]): a float layer is scaled once.

What batch normalization leaves behind a float layer is a product with a constant for every output;
it goes into the weights.

Conditions: the layer is FloatConv1d, FloatConv2d, or MatMul with a constant matrix on the right;
its result is used by the product alone; s is constant, with one number for every output along the
last axis or one for all; products are made in float64 and hold in float32.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.dual_scale import domain_node
from bicompile.passes.graph import (
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)


def fold_scale(model: ir.Model) -> None:
    """Apply the rewrite of this file to every product behind a layer."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "Mul") is None or not is_float32(node.outputs[0]):
            continue
        for value, other in (node.inputs, node.inputs[::-1]):
            scale, layer = constant(other), _layer(value)
            if scale is not None and layer is not None:
                _fold(node, layer, scale, Builder(node, names))
                break


def _layer(value: ir.Value | None) -> ir.Node | None:
    if value is None or len(list(value.uses())) != 1 or value.is_graph_output():
        return None
    layer = produced_by(value, "MatMul") or domain_node(value, "FloatConv1d", "FloatConv2d")
    weights = None if layer is None else constant(layer.inputs[1])
    return layer if weights is not None and weights.ndim > 1 else None


def _fold(node: ir.Node, layer: ir.Node, scale: np.ndarray, build: Builder) -> None:
    weights = constant(layer.inputs[1])
    assert weights is not None
    is_of_outputs = scale.size == 1 or scale.shape[-1:] == (scale.size,) == weights.shape[-1:]
    if not is_of_outputs or (layer.op_type == "MatMul" and weights.ndim != 2):
        return
    if shape_of(node.outputs[0]) != shape_of(layer.outputs[0]):
        return
    with np.errstate(all="ignore"):
        exact = weights.astype(np.float64) * scale.reshape(-1).astype(np.float64)
        scaled = exact.astype(np.float32)
    vanished = (np.abs(scaled) < np.finfo(np.float32).tiny) & (exact != 0)
    if not np.isfinite(scaled).all() or vanished.any():
        return
    layer.replace_input_with(1, build.constant("weights", scaled))
    (result,), name = layer.outputs, node.outputs[0].name
    replace(node, result)
    result.name = name  # it is the product now, and no longer what it was
