"""BatchNormalization(x; γ, β, μ, σ²) → x·k + (β − μ·k), with k = γ / √(σ² + ε) per channel.

Conditions: float32, inference form, all four parameters constant, k and the sum finite. γ may be
negative or zero. Anything else is left as it is.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)


def fold_batch_norm(model: ir.Model) -> None:
    """Apply the rewrite of this file to every batch normalization."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "BatchNormalization") is None:
            continue
        parameters = [constant(value) for value in node.inputs[1:5]]
        training = node.attributes.get("training_mode")
        if any(p is None for p in parameters) or (training is not None and training.as_int()):
            continue
        gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
        epsilon = node.attributes.get("epsilon")
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + (1e-5 if epsilon is None else epsilon.as_float()))
            shift = beta - mean * scale
            scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        x = node.inputs[0]
        assert x is not None
        if not is_float32(x) or not np.isfinite([scale, shift]).all():
            continue
        shape = shape_of(x)
        per_channel = (1, -1, *[1] * (len(shape) - 2))
        build = Builder(node, names)
        product = build.node(
            "Mul",
            [x, build.constant("scale", scale.reshape(per_channel))],
            shape,
        )
        shifted = build.node(
            "Add",
            [product, build.constant("shift", shift.reshape(per_channel))],
            shape,
        )
        replace(node, shifted)
