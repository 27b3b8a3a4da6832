"""What elementwise operators compute, in numpy, and which of them never turn back.

An operator is monotone in its one computed input if it never decreases, or never increases, while
that input grows: per channel, in float arithmetic, roundings included.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import constant, is_float32

Function = Callable[..., Any]

_FUNCTIONS: dict[str, Function] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Div": np.divide,
    "Equal": np.equal,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": lambda x: x,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *values: reduce(np.maximum, values),
    "Min": lambda *values: reduce(np.minimum, values),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Relu": lambda x: np.maximum(x, np.float32(0)),
    "Round": np.rint,
    "Sign": np.sign,
    "Sub": np.subtract,
    "Where": np.where,
    "Xor": np.logical_xor,
}
_MONOTONE = {*_FUNCTIONS, "Cast", "Clip"} - {"Abs", "And", "Equal", "Or", "Xor"}
JUMPING = (
    "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Round", "Sign",
)  # fmt: skip
"""Operators whose result jumps where their input need not."""

_CAST_BETWEEN = (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT)


def function_of(node: ir.Node | None) -> Function | None:
    """What a standard elementwise node computes from its inputs, or None for any other node.

    Takes an array for every input, None for an absent one.
    """
    if node is None or node.domain not in ("", "ai.onnx") or not node.inputs:
        return None
    first = node.inputs[0]
    if first is None:
        return None
    if node.op_type == "Cast":
        to = ir.DataType(node.attributes["to"].as_int())
        if first.dtype not in _CAST_BETWEEN or to not in _CAST_BETWEEN:
            return None
        return partial(np.asarray, dtype=to.numpy())
    if node.op_type == "Clip":
        return _clip
    if node.op_type == "Div" and not is_float32(first):
        return None
    return _FUNCTIONS.get(node.op_type)


def is_monotone(node: ir.Node) -> bool:
    """Whether an elementwise node is monotone in its one computed input.

    The numbers that it multiplies by may not be zero: 0·∞ is not a number.
    """
    computed = [value for value in node.inputs if value is not None and constant(value) is None]
    if len(computed) != 1 or node.op_type not in _MONOTONE:
        return False
    stands_first = computed[0] is node.inputs[0]
    if node.op_type == "Cast":  # to an integer, a number may overflow
        return bool(node.attributes["to"].as_int() == ir.DataType.FLOAT)
    if node.op_type in ("Clip", "Div", "Where") and not stands_first:
        return False
    if node.op_type in ("Mul", "Div"):
        factor = constant(node.inputs[1 if stands_first else 0])
        return factor is not None and bool((factor != 0).all())
    return True


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)
