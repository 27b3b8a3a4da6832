"""Chains of constant products and sums → one product and one sum.

(x + a)·k → x·k + a·k;  (x·a)·k → x·(a·k);  (x + a) + b → x + (a + b);  (x + y + a) stays.

Conditions: a, b, k constant, and the inner result used nowhere else. Constants are combined in
float64. Where broadcasting would make the combined constant larger than x the chain is left.
"""

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import Builder, constant, produced_by, replace, shape_of


def fold_affine(model: ir.Model) -> None:
    """Apply the rewrites of this file until none applies."""
    changed = True
    while changed:
        changed = False
        for node in list(model.graph):
            changed |= _fold(node)


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


def _fold(node: ir.Node) -> bool:
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
    if shape_of(x) != shape:
        return False
    build = Builder(node, node.name or outer_op)
    if inner_node.op_type == outer_op:
        combine = np.multiply if outer_op == "Mul" else np.add
        combined = combine(inner_constant, outer_constant)
        folded = build.node(
            outer_op,
            [x, build.constant("folded", combined.astype(np.float32))],
            shape,
            label="Folded",
        )
    else:
        scale, shift = outer_constant, inner_constant * outer_constant
        scaled = build.node(
            "Mul", [x, build.constant("scale", scale.astype(np.float32))], shape, label="Scale"
        )
        folded = build.node(
            "Add", [scaled, build.constant("shift", shift.astype(np.float32))], shape, label="Shift"
        )
    node_graph = node.graph
    replace(node, folded)
    node_graph.remove(inner_node, safe=True)
    return True
