"""Sizes that exporters compute in the graph from constants and static shapes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import floats, run
from networks import model_of
from onnx import helper, numpy_helper

from bicompile.errors import UserError
from bicompile.load import load_model


def loaded(
    folder: Path, nodes: list[onnx.NodeProto], y: tuple[int, ...], **constants: np.ndarray
) -> onnx.ModelProto:
    """Nodes that give `found`, the shape of which only the output of the graph tells."""
    nodes = [*nodes, helper.make_node("Identity", ["found"], ["y"])]
    onnx.save(model_of(nodes, constants, x=(1, 2, 5), y=y), folder / "model.onnx")
    return load_model(folder / "model.onnx")


def shape_of(model: onnx.ModelProto, name: str = "found") -> list[int]:
    (found,) = [value for value in model.graph.value_info if value.name == name]
    return [dim.dim_value for dim in found.type.tensor_type.shape.dim]


ZERO = numpy_helper.from_array(np.array([0]))
PADDED = [
    helper.make_node("ConstantOfShape", ["four"], ["zeros"], value=ZERO),
    helper.make_node("Concat", ["amounts", "zeros"], ["all"], axis=0),
    helper.make_node("Reshape", ["all", "pairs"], ["in_pairs"]),
    helper.make_node("Slice", ["in_pairs", "last", "far", "first", "back"], ["turned"]),
    helper.make_node("Transpose", ["turned"], ["by_side"], perm=[1, 0]),
    helper.make_node("Reshape", ["by_side", "back"], ["pads"]),
    helper.make_node("Pad", ["x", "pads"], ["found"], "pad"),
]  # fmt: skip
OF_PADS = {
    "four": np.array([4]),
    "amounts": np.array([1, 2]),
    "pairs": np.array([-1, 2]),
    "last": np.array([-1]),
    "far": np.array([-(2**63) + 1]),
    "first": np.array([0]),
    "back": np.array([-1]),
}


def test_pads_that_the_graph_computes_are_static(tmp_path: Path) -> None:
    model = loaded(tmp_path, PADDED, (1, 2, 8), **OF_PADS)
    assert shape_of(model) == [1, 2, 8]
    x = floats(0, 1, 2, 5)
    np.testing.assert_array_equal(run(model, x), np.pad(x, ((0, 0), (0, 0), (1, 2))))


def test_a_half_of_a_shape_is_static(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["v"]),
        helper.make_node("Shape", ["v"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["size"]),
        helper.make_node("Div", ["size", "two"], ["half"]),
        helper.make_node("Mul", ["half", "one"], ["end"]),
        helper.make_node("Slice", ["v", "start", "end", "axis"], ["found"], "cut"),
    ]
    constants = {"axis": 2, "two": 2, "one": 1, "start": 0}
    arrays = {name: np.array([number]) for name, number in constants.items()}
    assert shape_of(loaded(tmp_path, nodes, (1, 2, 2), **arrays)) == [1, 2, 2]


def test_a_size_that_depends_on_another_is_found_after_it(tmp_path: Path) -> None:
    nodes = [
        *PADDED[:-1],
        helper.make_node("Pad", ["x", "pads"], ["padded"], "pad"),
        helper.make_node("Shape", ["padded"], ["shape"]),
        helper.make_node("Identity", ["shape"], ["same"]),
        helper.make_node("Expand", ["padded", "same"], ["found"], "expand"),
    ]
    assert shape_of(loaded(tmp_path, nodes, (1, 2, 8), **OF_PADS)) == [1, 2, 8]


def test_a_size_that_depends_on_the_input_is_refused_with_its_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["where"], "find"),
             helper.make_node("Cast", ["where"], ["found"], "cast", to=1)]  # fmt: skip
    with pytest.raises(UserError, match=r"which node find \(NonZero\) gives, depends on"):
        loaded(tmp_path, nodes, (3, 9))


def test_weights_are_not_touched_by_computing_sizes(tmp_path: Path) -> None:
    nodes = [
        *PADDED[:-1],
        helper.make_node("Sign", ["w"], ["signs"], "signs"),
        helper.make_node("Pad", ["x", "pads"], ["padded"], "pad"),
        helper.make_node("Mul", ["padded", "signs"], ["found"]),
    ]
    model = loaded(tmp_path, nodes, (1, 2, 8), **OF_PADS, w=np.float32([2]))
    assert [node.op_type for node in model.graph.node] == ["Sign", "Pad", "Mul", "Identity"]
