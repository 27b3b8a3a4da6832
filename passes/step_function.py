"""Which elementwise functions of one tensor take two values, and where exactly they change.

A chain of elementwise operators that each never decrease (or never increase) in float arithmetic
is itself monotone, roundings included. If it takes one value at −max and another at +max, the
place where it changes is found by bisection over the floats, 32 evaluations for any chain, and one
more shows that the neighbouring float takes the other value: so there are two values and no third.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bicompile.passes.graph import constant, produced_by

Floats = NDArray[np.float32]
Function = Callable[[Any], Any]

_LARGEST_KEY = 0x7F7F_FFFF  # of the largest finite float32


@dataclass(frozen=True)
class Step:
    """x ≥ θ gives `above`, else `below` (also for NaN); ≤ where `greater` is false.

    `theta`, `above` and `below` are float32 arrays that broadcast against x, with at most one axis
    that is not 1 among them.
    """

    x: ir.Value
    theta: Floats
    above: Floats
    below: Floats
    greater: bool


class NotAStepError(Exception):
    """Why a tensor is not a two-valued function of another.

    `is_float` where nothing about it looks two-valued.
    """

    def __init__(self, reason: str, *, is_float: bool = False) -> None:
        """Say why."""
        super().__init__(reason)
        self.is_float = is_float


def read_step(value: ir.Value) -> Step:
    """Write `value` as a step of the earliest tensor that it is a monotone function of.

    Raises NotAStepError with the reason.
    """
    functions: list[Function] = []
    shape: tuple[int, ...] = ()
    x, jumps = value, False
    while (link := _link(x)) is not None:
        earlier, function, fixed_shape = link
        merged = np.broadcast_shapes(shape, fixed_shape)
        if sum(size != 1 for size in merged) > 1:
            break  # a threshold per position would be of no use to a layer
        jumps |= _jumps(x)
        functions.append(function)
        shape, x = merged, earlier
    if not jumps:
        raise NotAStepError("no comparison, sign or rounding leads to it", is_float=True)

    def evaluate(floats: Floats) -> Floats:
        result: Any = floats
        with np.errstate(all="ignore"):
            for function in reversed(functions):
                result = function(result)
        return np.broadcast_to(np.asarray(result, np.float32), shape)

    return _bisect(x, evaluate, shape)


def _jumps(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type in _JUMPING


def _bisect(x: ir.Value, evaluate: Callable[[Floats], Floats], shape: tuple[int, ...]) -> Step:
    low = np.full(shape, -_LARGEST_KEY, np.int64)
    high = np.full(shape, _LARGEST_KEY, np.int64)
    first, last = evaluate(_float_of(low)), evaluate(_float_of(high))
    if not (np.isfinite(first).all() and np.isfinite(last).all()):
        raise NotAStepError("it is not finite for large inputs")
    if (first == last).any():
        raise NotAStepError("it is constant in some channel")
    rising = first < last
    if not (rising.all() or not rising.any()):
        raise NotAStepError("it rises in some channels and falls in others")
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = evaluate(_float_of(middle)) == last
        high, low = np.where(reached, middle, high), np.where(reached, low, middle)
    before = evaluate(_float_of(low))
    if (before != first).any():
        at = np.argmax((before != first).ravel())
        raise NotAStepError(
            f"it takes the value {before.ravel()[at]:g} at {_float_of(low).ravel()[at]:g}, beside "
            f"{first.ravel()[at]:g} and {last.ravel()[at]:g}"
        )
    if rising.all():
        return Step(x, _float_of(high), last, first, True)
    return Step(x, _float_of(low), first, last, False)


def _float_of(keys: NDArray[np.int64]) -> Floats:
    """Floats in order: key 0 is zero, key ±1 the smallest subnormals, and so on."""
    bits = np.abs(keys).astype(np.uint32).view(np.float32)
    return np.where(keys < 0, -bits, bits).astype(np.float32)


_UNARY: dict[str, Function] = {
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Identity": lambda x: x,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Relu": lambda x: np.maximum(x, np.float32(0)),
    "Round": np.rint,
    "Sign": np.sign,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Mul": np.multiply,
    "Sub": np.subtract,
}


_JUMPING = (
    "Ceil", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Round", "Sign",
)  # fmt: skip


def _link(value: ir.Value) -> tuple[ir.Value, Function, tuple[int, ...]] | None:
    """One monotone operator back: its computed input, the function, the shape of its constants."""
    node = produced_by(value, *_UNARY, *_BINARY, "Cast", "Clip", "Div", "Where")
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type in _UNARY:
        return node.inputs[0], _UNARY[node.op_type], ()
    if node.op_type == "Cast":
        return _cast(node)
    if node.op_type == "Clip":
        return _clip(node)
    if node.op_type == "Where":
        above, below = _floats(node.inputs[1]), _floats(node.inputs[2])
        if above is None or below is None:
            return None
        shape = np.broadcast_shapes(above.shape, below.shape)
        return node.inputs[0], lambda x: np.where(x, above, below), shape
    return _with_constant(node)


def _with_constant(node: ir.Node) -> tuple[ir.Value, Function, tuple[int, ...]] | None:
    left, right = node.inputs
    fixed_left, fixed_right = _floats(left), _floats(right)
    operator = np.divide if node.op_type == "Div" else _BINARY[node.op_type]
    if fixed_right is not None and left is not None:
        return left, lambda x: operator(x, fixed_right), fixed_right.shape
    if fixed_left is not None and right is not None:
        if node.op_type == "Div":
            return None  # c / x is not monotone across zero
        return right, lambda x: operator(fixed_left, x), fixed_left.shape
    return None


def _floats(value: ir.Value | None) -> Floats | None:
    """A constant of finite float32 numbers."""
    array = constant(value)
    if array is None or array.dtype != np.float32 or not np.isfinite(array).all():
        return None
    return array


def _cast(node: ir.Node) -> tuple[ir.Value, Function, tuple[int, ...]] | None:
    """A boolean or an integer becomes float32 without loss of order."""
    x, to = node.inputs[0], node.attributes["to"].as_int()
    if x is None or x.dtype != ir.DataType.BOOL or to != ir.DataType.FLOAT:
        return None
    return x, lambda b: np.asarray(b, np.float32), ()


def _clip(node: ir.Node) -> tuple[ir.Value, Function, tuple[int, ...]] | None:
    bounds = [_floats(value) for value in node.inputs[1:]]
    given = [value for value in node.inputs[1:] if value is not None]
    if len(given) != sum(bound is not None for bound in bounds):
        return None
    low, high = (*bounds, None, None)[:2]
    x = node.inputs[0]
    assert x is not None

    def clip(v: Any) -> Any:
        v = v if low is None else np.maximum(v, low)
        return v if high is None else np.minimum(v, high)

    return x, clip, ()
