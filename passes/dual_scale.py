"""b₁·w + s·(b₂·w), two products with bits of one tensor → one product with both planes of bits.

Where b₁ = sign of x, r = x − b₁, b₂ = sign of r and s = mean |r − shift|, as a dual-scale binarizer
gives them, everything is read from x in one walk: DualScale(x) is the planes of b₁ and b₂ in one
tensor, and s. The layer is then one binary product with twice the rows, which shares every weight
between the planes, and DualEpilogue adds its two halves: the same operations on the same floats in
the same order, so that every bit and every accumulator is as before.

Conditions, at a sum of two products: both are binary layers of the same weights and window; the
first is not scaled, the second only by s; their bits are thresholds per channel of x and of r; the
±1 taken from x has the first one's threshold and direction; s is a mean over constant axes that it
keeps, and the shift before it a constant per channel. x and r may be read through one and the same
transpose. Anything else is left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bicompile.ops import DOMAIN
from bicompile.passes.graph import (
    Builder,
    constant,
    ints,
    names_in,
    produced_by,
    replace,
    scalar,
    shape_of,
)

BINARY_LAYERS = ("BinaryLinear", "BinaryConv1d", "BinaryConv2d")


def dual_scale(model: ir.Model) -> None:
    """Apply the rewrite of this file to every sum of two products."""
    names = names_in(model.graph)
    for node in list(model.graph):
        if produced_by(node.outputs[0], "Add") is not None:
            planes = _planes_added_by(node)
            found = planes and _binarizer_of(*planes)
            if planes and found:
                replace(node, _rewritten(Builder(planes[0].node, names), planes[0], found))


@dataclass(frozen=True)
class _Plane:
    """One product: the layer's node, the Threshold of its bits, and its scale."""

    node: ir.Node
    threshold: ir.Node
    scale: ir.Value | None


@dataclass(frozen=True)
class _Binarizer:
    """DualScale's operands: x as the first Threshold reads it, then per channel; mean axes of x."""

    x: ir.Value
    thresholds: tuple[ir.Value, ir.Value]
    shift: np.ndarray
    greater: tuple[int, int]
    group: int
    axes: tuple[int, ...]
    scale: ir.Value


@dataclass(frozen=True)
class _Read:
    """A tensor as its source and the transpose that it is read through."""

    source: ir.Value
    perm: tuple[int, ...]


def domain_node(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node of the domain that computes `value`, if it is one of `op_types`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == DOMAIN and node.op_type in op_types else None


def _planes_added_by(node: ir.Node) -> tuple[_Plane, _Plane] | None:
    """The unscaled and the scaled product, or None where they are not two planes of one layer."""
    read = [_plane(value) for value in node.inputs]
    first = next((plane for plane in read if plane and plane.scale is None), None)
    second = next((plane for plane in read if plane and plane.scale is not None), None)
    if first is None or second is None or not _same_layer(first.node, second.node):
        return None
    if _int(first.threshold, "group") != _int(second.threshold, "group"):
        return None
    shape = shape_of(first.node.outputs[0])
    return (first, second) if shape_of(node.outputs[0]) == shape and len(shape) > 1 else None


def _plane(value: ir.Value | None) -> _Plane | None:
    """Cast(layer), or the product of that and a computed scale."""
    scaled = produced_by(value, "Mul")
    for index in (0, 1) if scaled is not None else ():
        assert scaled is not None
        scale = scaled.inputs[1 - index]
        plane = _plane(scaled.inputs[index])
        if plane and plane.scale is None and scale is not None and constant(scale) is None:
            return _Plane(plane.node, plane.threshold, scale)
    cast = produced_by(value, "Cast")
    node = domain_node(cast.inputs[0], *BINARY_LAYERS) if cast is not None else None
    threshold = domain_node(node.inputs[0], "Threshold") if node is not None else None
    return None if node is None or threshold is None else _Plane(node, threshold, None)


def _same_layer(first: ir.Node, second: ir.Node) -> bool:
    if first.op_type != second.op_type or first is second:
        return False
    weights = [constant(node.inputs[1]) for node in (first, second)]
    attributes = [
        {name: attribute.value for name, attribute in node.attributes.items()}
        for node in (first, second)
    ]
    if weights[0] is None or weights[1] is None or attributes[0] != attributes[1]:
        return False
    return first.inputs[1] is second.inputs[1] or np.array_equal(weights[0], weights[1])


def _binarizer_of(first: _Plane, second: _Plane) -> _Binarizer | None:
    x, rest = (_read(plane.threshold.inputs[0]) for plane in (first, second))
    assert second.scale is not None
    scale = _read(second.scale)
    subtracted = produced_by(rest.source, "Sub")
    if subtracted is None or subtracted.inputs[0] is not x.source or x.perm != rest.perm:
        return None
    theta = constant(first.threshold.inputs[1])
    if theta is None or not _is_sign(subtracted.inputs[1], x, theta, first.threshold):
        return None
    if len(shape_of(second.scale)) != len(x.perm):
        return None
    mean = _mean(scale.source, rest.source)
    shift = None if mean is None else _per_channel(mean[0], x, theta.size)
    if mean is None or shift is None:
        return None
    axes = tuple(sorted(x.perm.index(axis) for axis in mean[1]))
    kept = [1 if i in axes else size for i, size in enumerate(shape_of(_value(first.threshold)))]
    is_vector = sum(size > 1 for size in kept) < 2  # then all transposes of a shape are the same
    if shape_of(second.scale) != tuple(kept) or not (is_vector or scale.perm == x.perm):
        return None
    return _Binarizer(
        _value(first.threshold),
        (_value(first.threshold, 1), _value(second.threshold, 1)),
        shift,
        (_int(first.threshold, "greater"), _int(second.threshold, "greater")),
        _int(first.threshold, "group"),
        axes,
        second.scale,
    )


def _read(value: ir.Value | None) -> _Read:
    assert value is not None
    transpose = produced_by(value, "Transpose")
    rank = range(len(shape_of(value)))
    if transpose is None or transpose.inputs[0] is None:
        return _Read(value, tuple(rank))
    return _Read(transpose.inputs[0], ints(transpose, "perm", rank[::-1]))


def _is_sign(value: ir.Value | None, x: _Read, theta: np.ndarray, threshold: ir.Node) -> bool:
    """Whether `value` is +1 where the Threshold sets a bit of x, and −1 elsewhere."""
    where = produced_by(value, "Where")
    if where is None or (scalar(where.inputs[1]), scalar(where.inputs[2])) != (1.0, -1.0):
        return False
    greater = "GreaterOrEqual" if _int(threshold, "greater") else "LessOrEqual"
    compared = produced_by(where.inputs[0], greater)
    if compared is None or compared.inputs[0] is not x.source:
        return False
    same = _per_channel(constant(compared.inputs[1]), x, theta.size)
    return same is not None and np.array_equal(same, theta)


def _per_channel(array: np.ndarray | None, x: _Read, channels: int) -> np.ndarray | None:
    """What broadcasts against the source as (C,), or None where it varies along other axes."""
    rank = len(x.perm)
    if array is None or array.ndim > rank or array.dtype != np.float32:
        return None
    last = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(x.perm)
    if last.size != last.shape[-1]:
        return None
    return np.broadcast_to(last.reshape(-1), (channels,))


def _mean(value: ir.Value, rest: ir.Value) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """The shift and the axes of mean |rest − shift|, which keeps its axes."""
    mean = produced_by(value, "ReduceMean")
    size = produced_by(mean.inputs[0], "Abs") if mean is not None else None
    if mean is None or size is None or len(mean.inputs) < 2 or ints_or(mean, "keepdims", 1) != 1:
        return None
    axes = constant(mean.inputs[1])
    if axes is None or not axes.size:
        return None
    rank = len(shape_of(rest))
    positive = tuple(int(axis) % rank for axis in axes.ravel())
    if size.inputs[0] is rest:
        return np.zeros((), np.float32), positive
    shifted = produced_by(size.inputs[0], "Sub")
    shift = constant(shifted.inputs[1]) if shifted is not None else None
    if shifted is None or shift is None or shifted.inputs[0] is not rest:
        return None
    return shift, positive


def _rewritten(build: Builder, plane: _Plane, found: _Binarizer) -> ir.Value:
    node, threshold = plane.node, plane.threshold
    planes, scale = build.node_of_many(
        "DualScale",
        [found.x, found.thresholds[0], build.constant("shift", found.shift), found.thresholds[1]],
        [
            (_doubled(shape_of(threshold.outputs[0])), ir.DataType.UINT8),
            (shape_of(found.scale), ir.DataType.FLOAT),
        ],
        domain=DOMAIN,
        greater=found.greater[0],
        greater2=found.greater[1],
        group=found.group,
        axes=found.axes,
    )
    accumulator = build.node(
        node.op_type,
        [planes, _value(node, 1)],
        _doubled(shape_of(node.outputs[0])),
        ir.DataType.INT32,
        domain=DOMAIN,
        metadata=dict(node.metadata_props),
        **{name: attribute.value for name, attribute in node.attributes.items()},
    )
    operands = [build.constant(name, np.array(by, np.float32)) for name, by in NEUTRAL.items()]
    shape = shape_of(node.outputs[0])
    return build.node("DualEpilogue", [accumulator, scale, *operands], shape, domain=DOMAIN)


NEUTRAL = {"multiplier": 1, "shift": 0, "slope": 1, "residual": 0}
"""What an epilogue takes for a step that its layer does not have."""


def _doubled(shape: Sequence[int]) -> tuple[int, ...]:
    return 2 * shape[0], *shape[1:]


def _value(node: ir.Node, index: int = 0) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _int(node: ir.Node, name: str) -> int:
    return ints_or(node, name, 1)


def ints_or(node: ir.Node, name: str, default: int) -> int:
    """An attribute that is one integer, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
