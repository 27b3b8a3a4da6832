"""Where(α·(x − θ) ≥ 0, 1, −1) → Where(x ≥ θ, 1, −1), or Where(x ≤ θ, 1, −1) for α < 0.

x − θ ≥ 0 ⟺ x ≥ θ holds for every finite float θ, because subtraction keeps the sign of the
difference (gradual underflow), and multiplying by α ≠ 0 keeps or turns it. Only where the product
underflows to zero do the two sides differ; with |α| ≥ 2⁻²³ that takes a subnormal difference.

Conditions: float32; θ constant and finite; α a constant scalar, finite, |α| ≥ 2⁻²³; the product,
the difference, or both may be absent; no constant adds axes. Anything else is left as it is.
"""

import math

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    scalar,
    shape_of,
)

_SMALLEST_ALPHA = 2.0**-23


def normalise_sign(model: ir.Model) -> None:
    """Apply the rewrite of this file to every comparison that chooses between 1 and −1."""
    names = names_in(model.graph)
    for node in list(model.graph):
        found = _match(node)
        if found is None:
            continue
        x, theta, greater = found
        condition, plus, minus = node.inputs
        assert condition is not None
        assert plus is not None
        assert minus is not None
        build = Builder(node, names)
        compared = build.node(
            "GreaterOrEqual" if greater else "LessOrEqual",
            [x, build.constant("threshold", theta)],
            shape_of(condition),
            ir.DataType.BOOL,
        )
        shape = shape_of(node.outputs[0])
        replace(node, build.node("Where", [compared, plus, minus], shape, label="Sign"))


def _match(node: ir.Node) -> tuple[ir.Value, np.ndarray, bool] | None:
    """x, θ and the direction of a Where of this pattern that is not yet in the plain form."""
    if produced_by(node.outputs[0], "Where") is None:
        return None
    condition, plus, minus = node.inputs
    if scalar(plus) != 1.0 or scalar(minus) != -1.0:
        return None
    comparison = produced_by(condition, "GreaterOrEqual")
    if comparison is None or scalar(comparison.inputs[1]) != 0.0:
        return None
    x, greater = comparison.inputs[0], True
    product = produced_by(x, "Mul")
    if product is not None:
        alpha, factor = scalar(product.inputs[1]), product.inputs[0]
        if alpha is None:
            alpha, factor = scalar(product.inputs[0]), product.inputs[1]
        if alpha is None or not _SMALLEST_ALPHA <= abs(alpha) < math.inf:
            return None
        x, greater = factor, alpha > 0
    theta = np.zeros((), np.float32)
    difference = produced_by(x, "Sub")
    if difference is not None:
        subtrahend = constant(difference.inputs[1])
        if subtrahend is not None and np.isfinite(subtrahend).all():
            x, theta = difference.inputs[0], subtrahend
    if x is comparison.inputs[0] or x is None or not is_float32(x):
        return None
    if np.broadcast_shapes(shape_of(x), theta.shape) != shape_of(comparison.outputs[0]):
        return None
    return x, theta, greater
