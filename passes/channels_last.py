"""f(transpose(x)) → transpose(f(x)): transposes move towards the outputs until they cancel.

The domain's ops are channels-last, the graphs around them mostly channels-first, so binary layers
come with a transpose on either side. For elementwise f, and for Pad, Slice and ReduceMean with
their axes renamed, the two orders are the same element for element. Two transposes in a row are
one, or none.

Conditions: every computed input of f is transposed by the same permutation; constants are
transposed instead. Sums over the renamed axes of ReduceMean may be ordered differently. Anything
else is left as it is.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    Builder,
    constant,
    ints,
    names_in,
    produced_by,
    replace,
    shape_of,
)

_ELEMENTWISE = (
    "Abs", "Add", "And", "Cast", "Clip", "Div", "GreaterOrEqual", "Identity", "LessOrEqual", "Max",
    "Min", "Mul", "Neg", "Or", "PRelu", "Relu", "Sub", "Where",
)  # fmt: skip

Permutation = tuple[int, ...]


def channels_last(model: ir.Model) -> None:
    """Apply the rewrite of this file in one walk from the inputs to the outputs."""
    names = names_in(model.graph)
    for node in list(model.graph):
        build = Builder(node, names)
        if produced_by(node.outputs[0], "Transpose") is not None:
            _merge(node, build)
        elif produced_by(node.outputs[0], *_ELEMENTWISE) is not None:
            _sink(node, build, _elementwise_inputs)
        elif produced_by(node.outputs[0], *_RENAMED) is not None:
            _sink(node, build, _RENAMED[node.op_type])


def _permutation(value: ir.Value | None) -> Permutation | None:
    transpose = produced_by(value, "Transpose")
    if transpose is None:
        return None
    assert value is not None
    rank = len(shape_of(value))
    return ints(transpose, "perm", range(rank)[::-1])


def _merge(node: ir.Node, build: Builder) -> None:
    """transpose(transpose(x, p), q) = transpose(x, p∘q)."""
    inner = _permutation(node.inputs[0])
    outer = _permutation(node.outputs[0])
    if inner is None or outer is None:
        return
    assert node.inputs[0] is not None
    source = _source(node.inputs[0])
    merged = tuple(inner[axis] for axis in outer)
    ends_graph = node.outputs[0].is_graph_output()
    may_end_graph = source.producer() is not None and not source.is_graph_output()
    if merged == tuple(range(len(merged))) and (may_end_graph or not ends_graph):
        replace(node, source)
        return
    shape = shape_of(node.outputs[0])
    dtype = node.outputs[0].dtype
    assert dtype is not None
    replace(node, build.node("Transpose", [source], shape, dtype, perm=merged))


Inputs = Callable[[ir.Node, Permutation, Builder], list[ir.Value | None] | None]


def _sink(node: ir.Node, build: Builder, inputs_below: Inputs) -> None:
    found = {
        _permutation(value)
        for value in node.inputs
        if value is not None and constant(value) is None
    }
    if len(found) != 1 or None in found:
        return
    (permutation,) = found
    assert permutation is not None
    output = node.outputs[0]
    shape, dtype = shape_of(output), output.dtype
    if len(shape) != len(permutation) or dtype is None:
        return
    inputs = inputs_below(node, permutation, build)
    if inputs is None:
        return
    inverse = tuple(int(axis) for axis in np.argsort(permutation))
    below = build.node(
        node.op_type,
        inputs,
        [shape[axis] for axis in inverse],
        dtype,
        metadata=dict(node.metadata_props),
        **{name: attribute.value for name, attribute in node.attributes.items()},
    )
    replace(node, build.node("Transpose", [below], shape, dtype, perm=permutation))
    sunk = below.producer()
    assert sunk is not None
    sunk.name = node.name


def _source(value: ir.Value) -> ir.Value:
    transpose = value.producer()
    assert transpose is not None
    source = transpose.inputs[0]
    assert source is not None
    return source


def _elementwise_inputs(
    node: ir.Node, permutation: Permutation, build: Builder
) -> list[ir.Value | None] | None:
    """Computed inputs from before their transposes, constants transposed the other way."""
    rank = len(permutation)
    inverse = np.argsort(permutation)
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        array = constant(value)
        if value is None or array is None:
            inputs.append(None if value is None else _source(value))
        elif array.size == 1 and array.ndim <= 1:
            inputs.append(value)
        elif array.ndim > rank:
            return None
        else:
            expanded = array.reshape((1,) * (rank - array.ndim) + array.shape)
            inputs.append(build.constant("transposed", expanded.transpose(inverse)))
    return inputs


def _renamed(axes: np.ndarray, permutation: Permutation) -> np.ndarray:
    return np.array([permutation[axis] for axis in axes], np.int64)


def _mean_inputs(
    node: ir.Node, permutation: Permutation, build: Builder
) -> list[ir.Value | None] | None:
    keep = node.attributes.get("keepdims")
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or (keep is not None and keep.as_int() == 0):
        return None
    assert node.inputs[0] is not None
    return [_source(node.inputs[0]), build.constant("axes", _renamed(axes, permutation))]


def _pad_inputs(
    node: ir.Node, permutation: Permutation, build: Builder
) -> list[ir.Value | None] | None:
    pads = constant(node.inputs[1])
    if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    rank = len(permutation)
    moved = np.zeros_like(pads)
    for axis, below in enumerate(permutation):
        moved[below], moved[below + rank] = pads[axis], pads[axis + rank]
    assert node.inputs[0] is not None
    return [_source(node.inputs[0]), build.constant("pads", moved), *node.inputs[2:3]]


def _slice_inputs(
    node: ir.Node, permutation: Permutation, build: Builder
) -> list[ir.Value | None] | None:
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    if axes is None or constant(node.inputs[1]) is None or constant(node.inputs[2]) is None:
        return None
    assert node.inputs[0] is not None
    renamed = build.constant("axes", _renamed(axes, permutation))
    return [_source(node.inputs[0]), node.inputs[1], node.inputs[2], renamed, *node.inputs[4:]]


_RENAMED: dict[str, Inputs] = {
    "Pad": _pad_inputs,
    "ReduceMean": _mean_inputs,
    "Slice": _slice_inputs,
}
