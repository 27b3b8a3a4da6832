"""f(x) → Where(x ≥ θ, a, b), or Where(x ≤ θ, a, b), for every elementwise step function f.

People write a sign in many ways: a comparison that chooses, twice a comparison less one, one
comparison less another, α·(x − θ) compared with zero, a rounded clip, the sign of a sign plus a
little, a sign whose zeros are replaced. If the result takes two values, the first up to some x and
the second from there on, it is one comparison with a threshold, and step_function finds that
threshold exactly, to the last bit and per channel. Where a and b = −a differ from channel to
channel, the scale comes out: Where(x ≥ θ, 1, −1)·a.

Conditions: float32; x one tensor of the result's shape, all else constant and finite; two values
and no third, so a plain Sign, which is 0 at 0, stays unless x is never 0 (see odd_integers). A NaN
gives b.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    ASSUMED,
    Builder,
    is_float32,
    names_in,
    produced_by,
    replace,
    scalar,
    shape_of,
)
from bicompile.passes.staircase import NotAStepError
from bicompile.passes.step_function import Step, read_step


def normalise_sign(model: ir.Model) -> None:
    """Apply the rewrite of this file to every node that ends such a function."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if len(node.outputs) != 1 or not is_float32(node.outputs[0]):
            continue
        try:
            step = read_step(node.outputs[0])
        except NotAStepError:
            continue
        is_one_pair = step.above.size == step.below.size == 1
        # A scale or a shift per channel after a sign is plain enough: the layer takes it apart.
        is_scaled = node.op_type == "Where" and np.array_equal(step.above, -step.below)
        if (is_one_pair and not _is_plain(node, step)) or (is_scaled and not is_one_pair):
            _rewrite(node, step, Builder(node, names))


def _is_plain(node: ir.Node, step: Step) -> bool:
    """Whether the node already is the right-hand side."""
    if node.op_type != "Where" or any(scalar(value) is None for value in node.inputs[1:]):
        return False
    comparison = produced_by(node.inputs[0], "GreaterOrEqual", "LessOrEqual")
    return comparison is not None and comparison.inputs[0] is step.x


def _rewrite(node: ir.Node, step: Step, build: Builder) -> None:
    shape = shape_of(node.outputs[0])
    compared = build.node(
        "GreaterOrEqual" if step.greater else "LessOrEqual",
        [step.x, build.constant("threshold", step.theta)],
        shape,
        ir.DataType.BOOL,
    )
    is_one_pair = step.above.size == step.below.size == 1
    above, below = (step.above.item(), step.below.item()) if is_one_pair else (1.0, -1.0)
    levels = [
        build.constant(label, np.array(level, np.float32))
        for label, level in (("above", above), ("below", below))
    ]
    assumed = {ASSUMED: step.assumed} if step.assumed else None
    chosen = build.node("Where", [compared, *levels], shape, label="Sign", metadata=assumed)
    if not is_one_pair:
        chosen = build.node("Mul", [chosen, build.constant("scale", step.above)], shape)
    replace(node, chosen)
