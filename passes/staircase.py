"""Elementwise functions of one tensor that take a few values: which, and exactly where.

Operators that never turn back in float arithmetic (see elementwise) make chains that are monotone
too, so the places where such a chain takes another value are found by bisection over all floats, 32
evaluations each. Whatever is computed from chains that take a few values only is constant between
those places: one evaluation in each piece tells all its values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bicompile.passes.elementwise import JUMPING, Function, function_of, is_monotone
from bicompile.passes.graph import constant

Floats = NDArray[np.float32]
Keys = NDArray[np.int64]
Chain = Callable[[Floats], Any]

INFINITY = 0x7F80_0000  # its key
_MOST_PLACES = 8  # where a chain may take another value
_MOST_CHANNELS = 2**18


class NotAStepError(Exception):
    """Why a tensor is not a two-valued function of another.

    `is_float` where nothing about it looks two-valued.
    """

    def __init__(self, reason: str, *, is_float: bool = False) -> None:
        """Say why."""
        super().__init__(reason)
        self.is_float = is_float


def no_jump() -> NotAStepError:
    """The reason why most tensors are none."""
    return NotAStepError("no comparison, sign or rounding leads to it", is_float=True)


@dataclass(frozen=True)
class Region:
    """The elementwise nodes that compute `value` from x and constants, in order."""

    x: ir.Value
    value: ir.Value
    nodes: list[ir.Node]


@dataclass(frozen=True)
class Piece:
    """Floats from one key up to, not including, another, and the value there, per channel."""

    start: Keys
    end: Keys
    value: Floats


class Staircase:
    """A region as a function of x alone. Raises NotAStepError where it is not known to be one.

    Arrays have the shape of all the region's constants together: one entry for what depends on
    none, one a channel where a constant has one a channel.
    """

    def __init__(self, region: Region) -> None:
        """Read the nodes and their constants."""
        self._region = region
        self._operations: list[tuple[ir.Value, Function, Sequence[ir.Value | None]]] = []
        self._constants: dict[ir.Value | None, Any] = {None: None}
        self._shape: tuple[int, ...] = ()
        for node in region.nodes:
            self._read(node)

    def pieces(self) -> list[Piece]:
        """All pieces in order, from −∞ to ∞; in some channels some may be empty."""
        starts = [np.full(self._shape, -INFINITY, np.int64)]
        for chain in self._chains():
            starts += _places(chain, self._shape)
        starts = list(np.sort(np.stack(starts), axis=0))
        ends = [*starts[1:], np.full(self._shape, INFINITY + 1, np.int64)]
        values = (self.evaluate(float_of(start), self._region.value) for start in starts)
        return [Piece(*each) for each in zip(starts, ends, values, strict=True)]

    def evaluate(self, x: Floats, wanted: ir.Value) -> Any:
        """What a tensor of the region is for an x."""
        values = {**self._constants, self._region.x: x}
        with np.errstate(all="ignore"):
            for output, function, inputs in self._operations:
                if wanted in values:
                    break
                values[output] = function(*(values[value] for value in inputs))
        return np.broadcast_to(values[wanted], self._shape)

    def _read(self, node: ir.Node) -> None:
        function = function_of(node)
        assert function is not None
        for value in node.inputs:
            array = constant(value)
            if array is None:
                continue
            array = narrowed(array)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NotAStepError("a constant in it is not finite")
            self._constants[value] = array
            self._shape = np.broadcast_shapes(self._shape, array.shape)
        if math.prod(self._shape) > _MOST_CHANNELS:
            raise NotAStepError("it has too many constants")
        self._operations.append((node.outputs[0], function, node.inputs))

    def _chains(self) -> list[Chain]:
        """The monotone functions of x that decide: all else is computed from what they give."""
        region = self._region
        chains = {region.x: False}  # with whether something in it jumps
        deciding: list[Chain] = []
        for node in region.nodes:
            inputs = computed_inputs(node)
            if inputs and inputs[0] in chains and is_monotone(node):
                chains[node.outputs[0]] = chains[inputs[0]] or node.op_type in JUMPING
            elif node.op_type == "Equal" and len(inputs) == 1 and inputs[0] in chains:
                deciding.append(self._side(node))
            else:
                deciding += [self._jumping(v, chains[v]) for v in inputs if v in chains]
        if region.value in chains:
            deciding.append(self._jumping(region.value, chains[region.value]))
        return deciding

    def _jumping(self, value: ir.Value, jumps: bool) -> Chain:
        if not jumps:
            raise no_jump()
        return lambda x: self.evaluate(x, value)

    def _side(self, equal: ir.Node) -> Chain:
        """0, 1 or 2 where a chain is below, at or above the number that it is compared with."""
        (value,) = computed_inputs(equal)
        number = self._constants[equal.inputs[1 if equal.inputs[0] is value else 0]]

        def side(x: Floats) -> Any:
            found = self.evaluate(x, value)
            return (found >= number).astype(np.int8) + (found > number)

        return side


def _places(chain: Chain, shape: tuple[int, ...]) -> list[Keys]:
    """The first key of every value that a chain takes after its first, for every channel."""
    end = np.full(shape, INFINITY, np.int64)
    low, last = -end, chain(float_of(end))
    places: list[Keys] = []
    while ((before := chain(float_of(low))) != last).any():
        if len(places) == _MOST_PLACES:
            raise NotAStepError(f"it takes more than {_MOST_PLACES} values")
        high = end.copy()
        while (high - low > 1).any():
            middle = (low + high) // 2
            same = chain(float_of(middle)) == before
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        places.append(high)
        low = high
    return places


def computed_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are neither absent nor constant."""
    return [value for value in node.inputs if value is not None and constant(value) is None]


def float_of(keys: Any) -> Floats:
    """Floats in order: key 0 is zero, key ±1 the smallest subnormals, and so on to ±INFINITY."""
    bits = np.abs(keys).astype(np.uint32).view(np.float32)
    floats: Floats = np.where(keys < 0, -bits, bits).astype(np.float32)
    return floats


def narrowed(array: np.ndarray) -> np.ndarray:
    """The array with one entry along every axis along which it does not vary."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] else array
        if (array == first).all():
            array = first
    return array
