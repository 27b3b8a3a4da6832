"""Reading an activation as a sum of ±1 tensors with scales: a = Σ sᵢ·signᵢ(x) + c."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import constant, is_float32, produced_by, scalar, shape_of

_MOST_PARTS = 64


@dataclass(frozen=True)
class Sign:
    """Where(x ≥ θ, 1, −1), or ≤ where `greater` is false; θ is a constant array."""

    x: ir.Value
    theta: np.ndarray
    greater: bool


@dataclass
class BinarySum:
    """Σ scale·sign + constants; a scale of None is 1."""

    terms: list[tuple[ir.Value | None, Sign]] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)


class NotBinaryError(Exception):
    """Why a tensor is not a sum of ±1 tensors."""


def read_sign(value: ir.Value | None) -> Sign | None:
    """The comparison behind a tensor of ±1, or None where it is not one (see normalise_sign)."""
    where = produced_by(value, "Where")
    if where is None or scalar(where.inputs[1]) != 1.0 or scalar(where.inputs[2]) != -1.0:
        return None
    comparison = produced_by(where.inputs[0], "GreaterOrEqual", "LessOrEqual")
    if comparison is None:
        return None
    x, theta = comparison.inputs[0], constant(comparison.inputs[1])
    if x is None or theta is None or not is_float32(x):
        return None
    return Sign(x, theta, comparison.op_type == "GreaterOrEqual")


def read_binary_sum(value: ir.Value | None) -> BinarySum:
    """Take `value` apart; raises NotBinaryError, which names the part that stands in the way."""
    found = BinarySum()
    parts = [(value, False)]
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
    value: ir.Value | None, negative: bool, found: BinarySum
) -> list[tuple[ir.Value | None, bool]]:
    """Add a term or a constant to what was found, or return the two parts of a sum."""
    array = constant(value)
    if array is not None:
        if not np.isfinite(array).all():
            raise NotBinaryError(f"the constant {_describe(value)} in its input is not finite")
        found.constants.append(-array if negative else array)
        return []
    node = produced_by(value, "Add", "Sub", "Mul")
    if node is not None and node.op_type != "Mul":
        first, second = node.inputs
        return [(first, negative), (second, negative ^ (node.op_type == "Sub"))]
    sign = read_sign(value)
    if sign is not None and not negative:
        found.terms.append((None, sign))
        return []
    if node is not None and not negative:
        for scale, factor in (node.inputs, reversed(node.inputs)):
            sign = read_sign(factor)
            if sign is not None and scale is not None:
                found.terms.append((scale, sign))
                return []
    raise NotBinaryError(f"its input {_describe(value)} is not a sum of ±1 tensors with scales")


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
