"""Which tensors are a step of another: one value up to some x, another from there on.

A value is taken back through elementwise operators to each single tensor x that it is computed
from, the earliest first; staircase tells the values that it takes, and where. A piece of them
counts only if x may lie in it: between two odd integers there is no third value (see odd_integers).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bicompile.passes.elementwise import JUMPING, function_of
from bicompile.passes.graph import ASSUMED, is_float32, shape_of
from bicompile.passes.odd_integers import are_odd_integers
from bicompile.passes.staircase import (
    INFINITY,
    Floats,
    Keys,
    NotAStepError,
    Piece,
    Region,
    Staircase,
    computed_inputs,
    float_of,
    narrowed,
    no_jump,
)

_MOST_NODES = 32


@dataclass(frozen=True)
class Step:
    """x ≥ θ gives `above`, else `below` (also for NaN); ≤ where `greater` is false.

    `theta`, `above` and `below` are float32 arrays that broadcast against x, of which `above` is
    the larger; an axis along which one does not vary has size 1.
    """

    x: ir.Value
    theta: Floats
    above: Floats
    below: Floats
    greater: bool
    assumed: str = ""
    """What the graph takes for granted of it (see graph.ASSUMED)."""


class _SignOfZeroError(NotAStepError):
    """The one reason that a person can do something about."""


def read_step(value: ir.Value) -> Step:
    """Write `value` as a step of the earliest tensor of its shape that it is one of.

    Raises NotAStepError with the reason.
    """
    reason = no_jump()
    for region in reversed(list(_regions(value))):
        try:
            return _read_region(region)
        except NotAStepError as found:
            if reason.is_float or isinstance(found, _SignOfZeroError):
                reason = found
    raise reason


def _regions(value: ir.Value) -> Iterator[Region]:
    """Every region that ends in `value`, the smallest first."""
    order = _ancestors(value)
    if not any(node.op_type in JUMPING for node in order):
        return
    unread = {value}
    for count, node in enumerate(reversed(order), start=1):
        unread.remove(node.outputs[0])
        unread.update(computed_inputs(node))
        if len(unread) == 1:
            (x,) = unread
            if is_float32(x) and shape_of(x) == shape_of(value):
                yield Region(x, value, order[len(order) - count :])


def _ancestors(value: ir.Value) -> list[ir.Node]:
    """The elementwise nodes that lead to a value, each after what it needs; at most a few."""
    order: list[ir.Node] = []
    entered: set[ir.Node] = set()
    stack = [(value, False)]
    while stack:
        at, is_left = stack.pop()
        node = at.producer()
        if node is None or function_of(node) is None:
            continue
        if is_left:
            order.append(node)
        elif node not in entered and len(entered) < _MOST_NODES:
            entered.add(node)
            stack.append((at, True))
            stack += [(before, False) for before in computed_inputs(node)]
    return order


def _read_region(region: Region) -> Step:
    staircase = Staircase(region)
    pieces = staircase.pieces()
    if are_odd_integers(region.x):
        possible = [_holds_odd_integer(piece) for piece in pieces]
    else:
        possible = [piece.start < piece.end for piece in pieces]
    first, last = _first(pieces, possible), _first(pieces[::-1], possible[::-1])
    if not (np.isfinite(first).all() and np.isfinite(last).all()):
        raise NotAStepError("it is not finite for large inputs")
    if (first == last).any():
        raise NotAStepError("it is constant in some channel")
    low, high = pieces[0].start, pieces[-1].end  # the first value up to low, the last from high on
    for piece, may_be in zip(pieces, possible, strict=True):
        third = may_be & (piece.value != first) & (piece.value != last)
        if third.any():
            raise _third_value(staircase, region, piece, third, first, last)
        low = np.where(may_be & (piece.value == first), piece.end - 1, low)
        is_new = may_be & (piece.value == last) & (high == pieces[-1].end)
        high = np.where(is_new, piece.start, high)
    if (high <= low).any():
        raise NotAStepError("it turns back")
    notes = (node.metadata_props.get(ASSUMED) for node in region.nodes)
    assumed = next(filter(None, notes), "")
    if (first < last).all():
        return Step(region.x, _threshold(low + 1), narrowed(last), narrowed(first), True, assumed)
    if (first > last).all():
        return Step(region.x, _threshold(high - 1), narrowed(first), narrowed(last), False, assumed)
    raise NotAStepError("it rises in some channels and falls in others")


def _holds_odd_integer(piece: Piece) -> Any:
    first, last = np.ceil(float_of(piece.start)), np.floor(float_of(piece.end - 1))
    odd = np.floor(first / 2) * 2 + 1
    return (piece.start < piece.end) & (odd <= last)


def _first(pieces: list[Piece], possible: list[Any]) -> Floats:
    """For every channel the value of the first piece that is possible."""
    values = [piece.value for piece in pieces]
    found: Floats = np.select(possible, values, np.float32(np.nan)).astype(np.float32)
    return found


def _threshold(keys: Keys) -> Floats:
    if (np.abs(keys) >= INFINITY).any():
        raise NotAStepError("it is constant for finite inputs in some channel")
    return narrowed(float_of(keys))


def _third_value(
    staircase: Staircase, region: Region, piece: Piece, where: Any, first: Floats, last: Floats
) -> NotAStepError:
    at = np.argmax(where.ravel())
    key = np.clip(0, piece.start, piece.end - 1)
    found, low, high, x = (
        float(array.ravel()[at]) for array in (piece.value, first, last, float_of(key))
    )
    said = f"it takes the value {found:g} at {x:g}, beside {low:g} and {high:g}"
    signed = (node.inputs[0] for node in region.nodes if node.op_type == "Sign")
    if any(v is not None and staircase.evaluate(float_of(key), v).ravel()[at] == 0 for v in signed):
        return _SignOfZeroError(
            f"{said}; the Sign of zero has no bit, --sign-of-zero plus or minus gives it one"
        )
    return NotAStepError(said)
