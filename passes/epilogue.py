"""accumulator → float, · scale, · multiplier, + shift, PReLU, + residual → one Epilogue.

What stands between the integers of a binary layer and the next thing that is not elementwise is
one op, so that a kernel reads the accumulator once. The steps are absorbed in the order in which
they stand, with the same float operations, so that nothing is rounded in another way; a step that
is missing multiplies by 1 or adds 0.

Conditions: the chain begins with the conversion of a binary layer's accumulator to float32, or
with a DualEpilogue (see dual_scale); what lies inside the chain is used nowhere else; scale is a
computed or constant factor, multiplier, shift and slope are constants; no step changes the shape.
The residual is any float32 tensor that broadcasts to it, or a constant. The chain ends where the
next step is none of these, or would stand before one that it already has.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bicompile.ops import DOMAIN
from bicompile.passes.dual_scale import BINARY_LAYERS, NEUTRAL, domain_node
from bicompile.passes.graph import (
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)

_STEPS = ("scale", *NEUTRAL)
_MAY_BE_COMPUTED = ("scale", "residual")


def epilogue(model: ir.Model) -> None:
    """Apply the rewrite of this file to every accumulator."""
    names = names_in(model.graph)
    for node in list(model.graph):
        chain = _start(node)
        if chain is None:
            continue
        while (longer := _continued(chain)) is not None:
            chain = longer
        if chain.last is not node or chain.op == "Epilogue":
            _rewrite(chain, Builder(chain.last, names))


@dataclass(frozen=True)
class _Chain:
    """What the op will compute: its accumulator, its operands so far, and the last node of it."""

    op: str
    accumulator: ir.Value
    operands: dict[str, ir.Value]
    last: ir.Node


def _start(node: ir.Node) -> _Chain | None:
    if domain_node(node.outputs[0], "DualEpilogue") is not None:
        accumulator, scale = node.inputs[:2]
        neutral = all(
            (by := constant(value)) is not None and by.shape == () and by == expected
            for value, expected in zip(node.inputs[2:], NEUTRAL.values(), strict=True)
        )
        assert accumulator is not None
        assert scale is not None
        return _Chain("DualEpilogue", accumulator, {"scale": scale}, node) if neutral else None
    if produced_by(node.outputs[0], "Cast") is None or not is_float32(node.outputs[0]):
        return None
    layer = domain_node(node.inputs[0], *BINARY_LAYERS)
    return None if layer is None else _Chain("Epilogue", layer.outputs[0], {}, node)


def _continued(chain: _Chain) -> _Chain | None:
    """The chain with the one node that reads its end, or None where it ends here."""
    end = chain.last.outputs[0]
    uses = list(end.uses())
    if len(uses) != 1 or end.is_graph_output():
        return None
    node, index = uses[0].node, uses[0].idx
    if produced_by(node.outputs[0], "Mul", "Add", "PRelu") is None:
        return None
    operand = node.inputs[1 - index]
    if operand is None or (node.op_type == "PRelu" and index != 0):
        return None
    if shape_of(node.outputs[0]) != shape_of(end) or not is_float32(operand):
        return None
    step = _step(chain, node.op_type, operand)
    if step is None:
        return None
    return _Chain(chain.op, chain.accumulator, {**chain.operands, step: operand}, node)


def _step(chain: _Chain, op_type: str, operand: ir.Value) -> str | None:
    """The first step that is free and may be this one; steps before the last taken are over."""
    wanted = {"Mul": ("scale", "multiplier"), "Add": ("shift", "residual"), "PRelu": ("slope",)}
    taken = [_STEPS.index(step) for step in chain.operands]
    is_constant = constant(operand) is not None
    for step in wanted[op_type]:
        if _STEPS.index(step) > max(taken, default=-1) and (
            is_constant if step not in _MAY_BE_COMPUTED else step != "scale" or not is_constant
        ):
            return step
    return None


def _rewrite(chain: _Chain, build: Builder) -> None:
    operands = [
        chain.operands.get(step) or build.constant(step, np.array(NEUTRAL.get(step, 1), np.float32))
        for step in _STEPS
    ]
    output = chain.last.outputs[0]
    inputs = [chain.accumulator, *operands]
    replace(chain.last, build.node(chain.op, inputs, shape_of(output), domain=DOMAIN))
