"""(q − c) + c → q, the residue that a straight-through estimator leaves in a graph.

Training needs a gradient where q, a sign or a rounding, has none, so people write q plus something
whose value is zero and whose gradient is that of c: (q − c) + c, c + (q − c), (q + c) − c,
q + (c − c), with `detach` around the parts that a gradient shall not enter. A graph has no
gradients, so c remains for nothing. Law: q − c + c = q for real numbers, wherever the two c stand
in a sum of three.

Conditions: both c are one tensor, or computed by equal nodes from the same tensors; c is computed,
since adding and subtracting a large number is a way to round; q comes from a comparison, a sign or
a rounding through scales and shifts, and has the shape of the result.

Rounding: in floats the left-hand side is q with an error of at most two roundings of |q| + |c|,
2^-23·(|q| + |c|): noise on a number that is meant to be exact, so weights ±σ become two values here
and not a cloud around them. Where c is infinite the left-hand side is NaN and the right-hand side
is q.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.elementwise import JUMPING
from bicompile.passes.graph import constant, produced_by, replace

_DEEPEST = 16
_MOST_PAIRS = 64
_THROUGH = (
    "Cast", "Expand", "Identity", "Neg", "Not", "Reshape", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip

Part = tuple[ir.Value, int]  # a term of a sum and its sign


def straight_through(model: ir.Model) -> None:
    """Apply the rewrite of this file to every sum of three."""
    for node in list(model.graph):
        q = _without_residue(node)
        if q is not None:
            replace(node, q)


def _without_residue(node: ir.Node) -> ir.Value | None:
    """What is left of a sum of three after its residue, if that is its value."""
    outer = _parts(node)
    if len(outer) != 2:
        return None
    for (inner_value, sign), kept in (outer, outer[::-1]):
        inner_node = inner_value.producer()
        inner = [] if inner_node is None else _parts(inner_node)
        if len(inner) != 2:
            continue
        terms = [kept, *((value, sign * by) for value, by in inner)]
        for index, (q, by) in enumerate(terms):
            (first, one), (second, other) = (term for i, term in enumerate(terms) if i != index)
            if by != 1 or one != -other or constant(first) is not None:
                continue
            if q.shape == node.outputs[0].shape and _Twins().are(first, second) and _jumps(q):
                return q
    return None


def _parts(node: ir.Node) -> list[Part]:
    """The two terms of a sum or difference; nothing for any other node."""
    if produced_by(node.outputs[0], "Add", "Sub") is None:
        return []
    first, second = node.inputs
    assert first is not None
    assert second is not None
    return [(first, 1), (second, 1 if node.op_type == "Add" else -1)]


class _Twins:
    """Which pairs of tensors hold the same numbers; every pair is compared once."""

    def __init__(self) -> None:
        self._known: dict[tuple[ir.Value | None, ir.Value | None], bool] = {}

    def are(self, first: ir.Value | None, second: ir.Value | None) -> bool:
        """Whether two tensors are one, or computed by equal nodes from the same."""
        if first is second or len(self._known) > _MOST_PAIRS:
            return first is second
        if (first, second) not in self._known:
            self._known[first, second] = self._compare(first, second)
        return self._known[first, second]

    def _compare(self, first: ir.Value | None, second: ir.Value | None) -> bool:
        one, other = constant(first), constant(second)
        if one is not None and other is not None:
            return one.dtype == other.dtype and np.array_equal(one, other)
        node = first.producer() if first is not None else None
        twin = second.producer() if second is not None else None
        if first is None or second is None or node is None or twin is None:
            return False
        return (
            node.op_identifier() == twin.op_identifier()
            and first.index() == second.index()
            and _attributes(node) == _attributes(twin)
            and len(node.inputs) == len(twin.inputs)
            and all(map(self.are, node.inputs, twin.inputs))
        )


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _jumps(value: ir.Value | None, depth: int = _DEEPEST) -> bool:
    """Whether a comparison, a sign or a rounding leads to a tensor through scales and shifts."""
    node = value.producer() if value is not None else None
    if node is None or node.domain not in ("", "ai.onnx") or depth == 0:
        return False
    if node.op_type in ("Add", "Div", "Mul", "Sub"):
        return any(_jumps(part, depth - 1) for part in node.inputs)
    if node.op_type in _THROUGH:
        return _jumps(node.inputs[0], depth - 1)
    return node.op_type in JUMPING
