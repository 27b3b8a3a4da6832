"""Tensors that take a few values wherever these come from.

What is chosen by a Where, or made of a truth value, takes the values it is chosen from. Moving
elements about, pooling their maximum and joining tensors make no other values; an elementwise
operator makes one for every combination of its inputs' values. So the maximum of some ±1 is ±1, and
so are a product of two and a border of +1 around them.
"""

from itertools import product

import numpy as np
import onnx_ir as ir

from bicompile.passes.elementwise import function_of
from bicompile.passes.graph import constant, produced_by, scalar

_KEEPING = (
    "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool",
    "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
_MOST_VALUES = 4
_DEEPEST = 16

Values = frozenset[float]


def taken_from(value: ir.Value | None) -> ir.Value | None:
    """The tensor of whose elements, and of nothing else, `value` consists; None where unknown."""
    node = produced_by(value, *_KEEPING)
    if node is None or value is None:
        return None
    if node.op_type == "MaxPool":
        ceil = node.attributes.get("ceil_mode")
        # A window rounded up may lie in the padding alone; a second output holds places.
        if (ceil is not None and ceil.as_int()) or value.index() != 0:
            return None
    return node.inputs[0]


def values_of(value: ir.Value | None) -> Values:
    """The values that elements of a tensor may have, where at most four are; else none."""
    return _Reader().read(value, _DEEPEST) or Values()


class _Reader:
    """Reads every tensor once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Values | None] = {}

    def read(self, value: ir.Value | None, depth: int) -> Values | None:
        if value is None or depth == 0:
            return None
        if value not in self._known:
            found = self._read(value, depth)
            few = found is not None and len(found) <= _MOST_VALUES and np.isfinite([*found]).all()
            self._known[value] = found if few else None
        return self._known[value]

    def _read(self, value: ir.Value, depth: int) -> Values | None:
        array = constant(value)
        if array is not None:
            return _of_constant(array)
        if value.dtype == ir.DataType.BOOL:
            return Values((0.0, 1.0))
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if (source := taken_from(value)) is not None:
            return self.read(source, depth - 1)
        if node.op_type == "Pad":
            return self._of_pad(node, depth)
        if node.op_type != "Concat" and function_of(node) is None:
            return None
        sources = [self.read(source, depth - 1) for source in node.inputs if source is not None]
        known = [source for source in sources if source is not None]
        if len(known) < len(sources):
            return None
        if node.op_type == "Where":
            return known[1] | known[2]
        return Values().union(*known) if node.op_type == "Concat" else _of_function(node, known)

    def _of_pad(self, node: ir.Node, depth: int) -> Values | None:
        mode = node.attributes.get("mode")
        inside = self.read(node.inputs[0], depth - 1)
        if inside is None or (mode is not None and mode.as_string() != "constant"):
            return inside
        given = node.inputs[2] if len(node.inputs) > 2 else None
        border = 0.0 if given is None else scalar(given)
        return None if border is None else inside | {border}


def _of_constant(array: np.ndarray) -> Values | None:
    if not array.size or array.dtype.kind not in "bfiu":
        return None
    least, most = array.min(), array.max()
    return (
        Values((float(least), float(most))) if ((array == least) | (array == most)).all() else None
    )


def _of_function(node: ir.Node, sources: list[Values]) -> Values:
    function = function_of(node)
    assert function is not None
    present = [value is not None for value in node.inputs]
    found = set()
    for combination in product(*sources):
        numbers = iter(combination)
        given = [np.float32(next(numbers)) if is_there else None for is_there in present]
        with np.errstate(all="ignore"):
            found.add(float(function(*given)))
    return Values(found)
