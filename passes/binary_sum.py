"""Reading an activation as a sum of ±1 tensors with scales: a = Σ fᵢ·sᵢ·signᵢ(x) + c."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    ASSUMED,
    constant,
    is_float32,
    produced_by,
    scalar,
    shape_of,
)
from bicompile.passes.staircase import NotAStepError
from bicompile.passes.step_function import read_step
from bicompile.passes.two_values import taken_from, values_of

_MOST_PARTS = 64


@dataclass(frozen=True)
class Sign:
    """1 where x ≥ θ, or x ≤ θ where `greater` is false, else −1; θ is a constant array."""

    x: ir.Value
    theta: np.ndarray
    greater: bool
    assumed: str = ""
    """What is taken for granted of it (see graph.ASSUMED)."""


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
    """Add a term or a constant to what was found, or return the parts of a sum."""
    array = constant(value)
    if array is not None:
        if not np.isfinite(array).all():
            raise NotBinaryError(f"the constant {_describe(value)} in its input is not finite")
        found.constants.append(np.float32(factor) * array)
        return []
    node = produced_by(value, "Add", "Sub", "Mul", "Neg", "Identity")
    parts = [] if node is None else _parts(node, factor)
    levels = None if any(constant(part) is not None for part, _ in parts) else _levels(value)
    if levels is not None:
        return _add_term(levels, None, factor, found)
    if node is not None and node.op_type == "Mul" and not parts:
        for scale, signed in (node.inputs, reversed(node.inputs)):
            levels = _levels(signed)
            if levels is not None and levels[2] == 0:
                return _add_term(levels, scale, factor, found)
    if not parts:
        raise _refusal(value, node)
    return parts


def _parts(node: ir.Node, factor: float) -> list[tuple[ir.Value | None, float]]:
    """What a node adds up, each part with its factor; nothing where it is a product of tensors."""
    if node.op_type == "Mul":
        for number, part in (node.inputs, reversed(node.inputs)):
            by = scalar(number)
            if by is not None and np.isfinite(by) and constant(part) is None:
                return [(part, factor * by)]
        return []
    signs = {"Add": (1, 1), "Sub": (1, -1), "Neg": (-1,), "Identity": (1,)}[node.op_type]
    return [(part, factor * by) for part, by in zip(node.inputs, signs, strict=True)]


def _add_term(
    levels: tuple[Sign, float, float], scale: ir.Value | None, factor: float, found: BinarySum
) -> list[tuple[ir.Value | None, float]]:
    sign, half, middle = levels
    found.terms.append(Term(factor * half, scale, sign))
    if middle:
        found.constants.append(np.array(factor * middle, np.float32))
    return []


def _levels(value: ir.Value | None) -> tuple[Sign, float, float] | None:
    """A two-valued tensor as middle + half·sign.

    A choice by comparison, as normalise_sign leaves it, is a sign of what was compared; any other
    tensor of two values is a sign of itself.
    """
    if value is None or not is_float32(value) or len(values := values_of(value)) != 2:
        return None
    below, above = sorted(values)
    sign = Sign(value, np.array(above, np.float32), True)
    where = produced_by(value, "Where")
    compared = where and produced_by(where.inputs[0], "GreaterOrEqual", "LessOrEqual")
    if where is not None and compared is not None:
        x, theta = compared.inputs[0], constant(compared.inputs[1])
        one, other = scalar(where.inputs[1]), scalar(where.inputs[2])
        chosen = one is not None and other is not None
        if chosen and x is not None and is_float32(x) and theta is not None:
            assert one is not None
            assert other is not None
            greater = compared.op_type == "GreaterOrEqual"
            sign = Sign(x, theta, greater, where.metadata_props.get(ASSUMED, ""))
            above, below = one, other
    half, middle = (above - below) / 2, (above + below) / 2
    if np.float32(half) != half or np.float32(middle) != middle:
        return None
    if (middle + half, middle - half) != (above, below):  # 1e38 and -1: one rounds away the other
        return None
    return sign, half, middle


def _refusal(value: ir.Value | None, node: ir.Node | None) -> NotBinaryError:
    """What a comparison, sign or rounding behind the value lacks to be one of two values."""
    why = ""
    for part in (value,) if node is None else node.inputs:
        while (source := taken_from(part)) is not None:
            part = source
        try:
            if part is not None:
                read_step(part)
        except NotAStepError as reason:
            why = why if reason.is_float else f": {reason}"
    return NotBinaryError(
        f"its input {_describe(value)} is not a sum of ±1 tensors with scales{why}"
    )


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
