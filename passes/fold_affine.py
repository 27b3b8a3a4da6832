"""Chains of constant products and sums → one product and one sum.

(x + a)·k → x·k + a·k;  (x·a)·k → x·(a·k);  (x + a) + b → x + (a + b);  (x + y + a) stays.

Conditions: float32; a, b, k constant, and the inner result used nowhere else. Constants are
combined in float64. Where broadcasting would make the combined constant larger than x, or the
combined constant overflows or vanishes in float32, the chain is left.
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


def fold_affine(model: ir.Model) -> None:
    """Apply the rewrites of this file until none applies."""
    names = names_in(model.graph)
    changed = True
    while changed:
        changed = False
        for node in list(model.graph):
            changed |= _fold(node, names)


def _split(node: ir.Node | None) -> tuple[ir.Value, np.ndarray] | None:
    """The computed and the constant input of a binary node."""
    if node is None:
        return None
    first, second = node.inputs
    for computed, fixed in ((first, second), (second, first)):
        array = constant(fixed)
        if array is not None and computed is not None and constant(computed) is None:
            return computed, array.astype(np.float64)
    return None


def _combine(product: bool, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """The product or sum as float32, or None where float32 does not hold it."""
    with np.errstate(all="ignore"):
        exact = first * second if product else first + second
        combined: np.ndarray = exact.astype(np.float32)
    vanished = (np.abs(combined) < np.finfo(np.float32).tiny) & (first != 0) & (second != 0)
    return combined if np.isfinite(combined).all() and not (product and vanished.any()) else None


def _fold(node: ir.Node, names: set[str]) -> bool:
    outer_op = node.op_type
    outer = _split(produced_by(node.outputs[0], "Mul", "Add"))
    if outer is None or node.graph is None:
        return False
    inner_value, outer_constant = outer
    inner_node = produced_by(inner_value, "Mul", "Add")
    inner = _split(inner_node)
    if inner is None or inner_node is None or len(inner_value.uses()) != 1:
        return False
    if inner_value.is_graph_output() or (inner_node.op_type, outer_op) == ("Mul", "Add"):
        return False
    x, inner_constant = inner
    shape = shape_of(node.outputs[0])
    combined = _combine(outer_op == "Mul", inner_constant, outer_constant)
    if shape_of(x) != shape or not is_float32(x) or combined is None:
        return False
    build = Builder(node, names)
    notes = {**inner_node.metadata_props, **node.metadata_props}
    if inner_node.op_type == outer_op:
        folded = build.node(
            outer_op,
            [x, build.constant("folded", combined)],
            shape,
            label="Folded",
            metadata=notes,
        )
    else:
        scale = build.constant("scale", outer_constant.astype(np.float32))
        scaled = build.node("Mul", [x, scale], shape, label="Scale")
        shift = build.constant("shift", combined)
        folded = build.node("Add", [scaled, shift], shape, label="Shift", metadata=notes)
    node_graph = node.graph
    replace(node, folded)
    node_graph.remove(inner_node, safe=True)
    return True
