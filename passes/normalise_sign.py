"""f(x) → Where(x ≥ θ, a, b), or Where(x ≤ θ, a, b), for every step function f written as a chain.

People write a sign in many ways: a comparison that chooses, twice a comparison less one, α·(x − θ)
compared with zero, a rounded clip, the sign of a sign plus a little. Each is a chain of elementwise
operators that are monotone in float arithmetic, so if it takes two values it is one comparison with
a threshold, and step_function finds that threshold exactly, to the last bit and per channel.

Conditions: float32; all other operands constant and finite; two values and no third, so that a
plain Sign, which is 0 at 0, stays; the chain has the shape of x. A NaN gives b.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    Builder,
    is_float32,
    names_in,
    replace,
    shape_of,
)
from bicompile.passes.step_function import NotAStepError, Step, read_step


def normalise_sign(model: ir.Model) -> None:
    """Apply the rewrite of this file to every node that ends such a chain."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if len(node.outputs) != 1 or not is_float32(node.outputs[0]):
            continue
        try:
            step = read_step(node.outputs[0])
        except NotAStepError:
            continue
        if not _is_plain(node, step) and _fits(node, step):
            _rewrite(node, step, Builder(node, names))


def _is_plain(node: ir.Node, step: Step) -> bool:
    """Whether the node already is the right-hand side."""
    comparison = node.inputs[0].producer() if node.inputs[0] is not None else None
    return (
        node.op_type == "Where"
        and comparison is not None
        and comparison.op_type in ("GreaterOrEqual", "LessOrEqual")
        and comparison.inputs[0] is step.x
    )


def _fits(node: ir.Node, step: Step) -> bool:
    """Whether x is a float32 tensor of the chain's own shape."""
    shape = shape_of(step.x)
    return (
        is_float32(step.x)
        and shape == shape_of(node.outputs[0])
        and np.broadcast_shapes(shape, step.theta.shape) == shape
    )


def _rewrite(node: ir.Node, step: Step, build: Builder) -> None:
    shape = shape_of(node.outputs[0])
    compared = build.node(
        "GreaterOrEqual" if step.greater else "LessOrEqual",
        [step.x, build.constant("threshold", step.theta)],
        shape,
        ir.DataType.BOOL,
    )
    levels = [
        build.constant(label, _single(level))
        for label, level in (("above", step.above), ("below", step.below))
    ]
    replace(node, build.node("Where", [compared, *levels], shape, label="Sign"))


def _single(level: np.ndarray) -> np.ndarray:
    """One number where all are the same."""
    return level.reshape(-1)[0].reshape(()) if (level == level.reshape(-1)[0]).all() else level
