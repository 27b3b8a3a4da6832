"""Reading an activation as a sum of ±1 tensors with scales: a = Σ fᵢ·sᵢ·signᵢ(x) + c."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import constant, is_float32, produced_by, scalar, shape_of
from bicompile.passes.step_function import NotAStepError, read_step

_MOST_PARTS = 64


@dataclass(frozen=True)
class Sign:
    """1 where x ≥ θ, or x ≤ θ where `greater` is false, else −1; θ is a constant array."""

    x: ir.Value
    theta: np.ndarray
    greater: bool


@dataclass(frozen=True)
class Term:
    """factor · scale · sign; a scale of None is 1."""

    factor: float
    scale: ir.Value | None
    sign: Sign


@dataclass
class BinarySum:
    """Σ terms + constants."""

    terms: list[Term] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)


class NotBinaryError(Exception):
    """Why a tensor is not a sum of ±1 tensors."""


def read_binary_sum(value: ir.Value | None) -> BinarySum:
    """Take `value` apart; raises NotBinaryError, which names the part that stands in the way."""
    found = BinarySum()
    parts = [(value, 1.0)]
    for _ in range(_MOST_PARTS):
        if not parts:
            break
        parts += reversed(_read(*parts.pop(), found))
    if parts:
        raise NotBinaryError(f"its input {_describe(value)} is a sum of more than a few parts")
    if not found.terms:
        raise NotBinaryError("its input is constant")
    return found


def _read(
    value: ir.Value | None, factor: float, found: BinarySum
) -> list[tuple[ir.Value | None, float]]:
    """Add a term or a constant to what was found, or return the two parts of a sum."""
    array = constant(value)
    if array is not None:
        if not np.isfinite(array).all():
            raise NotBinaryError(f"the constant {_describe(value)} in its input is not finite")
        found.constants.append(np.float32(factor) * array)
        return []
    node = produced_by(value, "Add", "Sub", "Mul")
    if node is not None and node.op_type != "Mul":
        first, second = node.inputs
        return [(first, factor), (second, -factor if node.op_type == "Sub" else factor)]
    levels = _read_levels(value)
    if levels is not None:
        sign, half, middle = levels
        found.terms.append(Term(factor * half, None, sign))
        if middle:
            found.constants.append(np.array(factor * middle, np.float32))
        return []
    if node is not None:
        for scale, signed in (node.inputs, reversed(node.inputs)):
            levels = _read_levels(signed)
            if levels is not None and levels[2] == 0 and scale is not None:
                found.terms.append(Term(factor * levels[1], scale, levels[0]))
                return []
    raise NotBinaryError(
        f"its input {_describe(value)} is not a sum of ±1 tensors with scales{_why(value)}"
    )


def _read_levels(value: ir.Value | None) -> tuple[Sign, float, float] | None:
    """A two-valued tensor as middle + half·sign, once normalise_sign has put it in plain form."""
    where = produced_by(value, "Where")
    if where is None:
        return None
    above, below = scalar(where.inputs[1]), scalar(where.inputs[2])
    comparison = produced_by(where.inputs[0], "GreaterOrEqual", "LessOrEqual")
    if comparison is None or above is None or below is None or above == below:
        return None
    if not np.isfinite([above, below]).all():
        return None
    half, middle = (above - below) / 2, (above + below) / 2
    if np.float32(half) != half or np.float32(middle) != middle:
        return None
    x, theta = comparison.inputs[0], constant(comparison.inputs[1])
    if x is None or theta is None or not is_float32(x):
        return None
    return Sign(x, theta, comparison.op_type == "GreaterOrEqual"), half, middle


def _why(value: ir.Value | None) -> str:
    """What a comparison, sign or rounding behind the value lacks to be one of two values."""
    if value is None or value.producer() is None:
        return ""
    try:
        read_step(value)
    except NotAStepError as reason:
        return "" if reason.is_float else f": {reason}"
    return ""


def _describe(value: ir.Value | None) -> str:
    producer = value.producer() if value is not None else None
    if value is None:
        return "(absent)"
    return value.name or "?" if producer is None else f"{value.name} (from {producer.op_type})"


def constant_along(scale: ir.Value | None, axes: tuple[int, ...]) -> bool:
    """Whether a scale, aligned to the right of a tensor of rank r, does not vary along `axes`.

    `axes` are negative. A scale of lower rank does not vary along the axes it does not have.
    """
    if scale is None:
        return True
    array = constant(scale)
    shape = shape_of(scale) if array is None else array.shape
    return all(-axis > len(shape) or shape[axis] == 1 for axis in axes)
