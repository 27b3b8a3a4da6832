"""f(Where(x ≥ θ, a, b)) → Where(f(x) ≥ f(θ), a, b), for f that moves elements about; so for ≤.

A reshape, a transpose, a slice, a join of several tensors gives elements of what it takes and no
others, so it may as well come before the comparison, and what a layer takes is a comparison again,
which is packed without the ±1 ever being stored as floats. θ is broadcast to the shape of x before
it is moved, so a threshold per channel follows its channel through a flatten or a shuffle.

Conditions: θ constant; a and b one number each; of a join, every part is such a choice, with the
same a and b and in the same direction. Max-pooling stays after the choice: there it is exact for
NaN too, and the layer compares what was pooled (see two_values).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bicompile.passes.graph import (
    ASSUMED,
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    scalar,
    shape_of,
)
from bicompile.passes.staircase import narrowed

_MOVING = (
    "Concat", "DepthToSpace", "Flatten", "Gather", "Pad", "Reshape", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""The operands after the first, of any but Concat, say how elements move."""


@dataclass(frozen=True)
class _Choice:
    """Where(x ≥ θ, above, below), or ≤."""

    x: ir.Value
    theta: np.ndarray
    comparison: str
    levels: tuple[float, float]
    assumed: str

    def is_like(self, other: "_Choice | None") -> bool:
        """Whether both choose between the same numbers in the same direction."""
        same = other is not None and self.comparison == other.comparison
        return same and other is not None and self.levels == other.levels


@dataclass(frozen=True)
class _Move:
    """An operator that moves elements about, and what it takes after the tensors it moves."""

    op: str
    operands: list[ir.Value | None]
    attributes: dict[str, Any]

    def of_thresholds(self, choices: list[_Choice]) -> np.ndarray | None:
        """The thresholds as they are once moved; None where they cannot be, nor can the rest."""
        thetas = [choice.theta for choice in choices]
        if all(theta.size == 1 and theta.item() == thetas[0].item() for theta in thetas):
            return thetas[0].reshape(())
        full = [np.broadcast_to(choice.theta, shape_of(choice.x)) for choice in choices]
        given = [*full, *(constant(value) for value in self.operands)]
        names = ["" if array is None else f"operand_{i}" for i, array in enumerate(given)]
        node = helper.make_node(self.op, names, ["moved"], **self.attributes)
        feed = {name: array for name, array in zip(names, given, strict=True) if name}
        try:
            (moved,) = ReferenceEvaluator(node).run(None, feed)
        except Exception:  # numpy's of any kind, and more
            return None
        return narrowed(np.asarray(moved, np.float32))


def move_signs(model: ir.Model) -> None:
    """Apply the rewrite of this file in one walk from the inputs to the outputs."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], *_MOVING) is None or not is_float32(node.outputs[0]):
            continue
        moved = len(node.inputs) if node.op_type == "Concat" else 1
        choices = [_read(value) for value in node.inputs[:moved]]
        alike = [c for c in choices if c is not None and c.is_like(choices[0])]
        if len(alike) < moved or not _only_moves(node):
            continue
        build = Builder(node, names)
        if node.op_type == "Split":
            _rewrite_split(node, alike[0], build)
            continue
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        move = _Move(node.op_type, list(node.inputs[moved:]), attributes)
        chosen = _choice(move, alike, shape_of(node.outputs[0]), build)
        if chosen is not None:
            replace(node, chosen)


def _read(value: ir.Value | None) -> _Choice | None:
    where = produced_by(value, "Where")
    if where is None:
        return None
    compared = produced_by(where.inputs[0], "GreaterOrEqual", "LessOrEqual")
    above, below = scalar(where.inputs[1]), scalar(where.inputs[2])
    if compared is None or above is None or below is None:
        return None
    x, theta = compared.inputs[0], constant(compared.inputs[1])
    if x is None or theta is None or not is_float32(x):
        return None
    if shape_of(x) != shape_of(where.outputs[0]):
        return None
    assumed = where.metadata_props.get(ASSUMED, "")
    return _Choice(x, theta, compared.op_type, (above, below), assumed)


def _only_moves(node: ir.Node) -> bool:
    """Whether all that the node does is known: to give elements of what it moves."""
    if node.op_type == "Pad":
        mode = node.attributes.get("mode")
        if mode is None or mode.as_string() == "constant":
            return False
    if node.op_type == "Split" and any(value.is_graph_output() for value in node.outputs):
        return False
    return node.op_type == "Concat" or all(
        value is None or constant(value) is not None for value in node.inputs[1:]
    )


def _rewrite_split(node: ir.Node, choice: _Choice, build: Builder) -> None:
    """Every part of a split is a slice."""
    axis = node.attributes.get("axis")
    along = 0 if axis is None else axis.as_int()
    start = 0
    for output in node.outputs:
        end = start + shape_of(output)[along]
        bounds = [
            build.constant(label, np.array([number]))
            for label, number in (("starts", start), ("ends", end), ("axes", along))
        ]
        chosen = _choice(_Move("Slice", bounds, {}), [choice], shape_of(output), build)
        assert chosen is not None
        output.replace_all_uses_with(chosen)
        start = end


def _choice(
    move: _Move, choices: list[_Choice], shape: tuple[int, ...], build: Builder
) -> ir.Value | None:
    """The choice that is made after a move of what was compared."""
    first = choices[0]
    theta = move.of_thresholds(choices)
    if theta is None:
        return None
    xs = [choice.x for choice in choices]
    x = build.node(move.op, [*xs, *move.operands], shape, **move.attributes)
    threshold = build.constant("threshold", theta)
    compared = build.node(first.comparison, [x, threshold], shape, ir.DataType.BOOL)
    levels = [
        build.constant(label, np.array(level, np.float32))
        for label, level in zip(("above", "below"), first.levels, strict=True)
    ]
    assumed = next((choice.assumed for choice in choices if choice.assumed), "")
    metadata = {ASSUMED: assumed} if assumed else None
    return build.node("Where", [compared, *levels], shape, label="Sign", metadata=metadata)
