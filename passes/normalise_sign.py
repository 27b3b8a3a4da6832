"""Where(α·(x − θ) ≥ 0, 1, −1) → Where(x ≥ θ, 1, −1), or Where(x ≤ θ, 1, −1) for α < 0.

x − θ ≥ 0 ⟺ x ≥ θ holds for every finite float θ, because subtraction keeps the sign of the
difference (gradual underflow), and multiplying by α ≠ 0 keeps or turns it. Only where the product
underflows to zero (|x − θ| < 2⁻¹⁴⁹ / |α|, a subnormal difference) do the two sides differ.

Conditions: θ constant and finite, α a constant scalar, finite and not 0; the product, the
difference, or both may be absent. Anything else is left as it is.
"""

import math

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import Builder, constant, produced_by, replace, scalar, shape_of


def normalise_sign(model: ir.Model) -> None:
    """Apply the rewrite of this file to every comparison that chooses between 1 and −1."""
    for node in list(model.graph):
        found = _match(node)
        if found is None:
            continue
        x, theta, greater = found
        shape = shape_of(node.outputs[0])
        build = Builder(node, node.name or "Sign")
        threshold = build.constant("threshold", theta)
        compared = build.node(
            "GreaterOrEqual" if greater else "LessOrEqual", [x, threshold], shape, ir.DataType.BOOL
        )
        plus, minus = node.inputs[1:]
        assert plus is not None
        assert minus is not None
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
        if alpha is None or alpha == 0.0 or not math.isfinite(alpha):
            return None
        x, greater = factor, alpha > 0
    theta = np.zeros((), np.float32)
    difference = produced_by(x, "Sub")
    if difference is not None:
        subtrahend = constant(difference.inputs[1])
        if subtrahend is not None and np.isfinite(subtrahend).all():
            x, theta = difference.inputs[0], subtrahend
    if x is comparison.inputs[0] or x is None:
        return None
    return x, theta, greater
