from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from networks import model_of
from onnx import helper, numpy_helper

from bicompile.graph_text import graph_text
from bicompile.passes.fold_constants import fold_constants, fold_sizes
from bicompile.passes.remove_unused import remove_unused

WEIGHTS = np.array([[0.5, -1.5], [-0.25, 0.25], [2, 1]], np.float32)


def binarized_in_the_graph() -> onnx.ModelProto:
    """x times σ·sign(w), with σ = mean |w| of every output."""
    nodes = [
        helper.make_node("Constant", [], ["axes"], "axes", value_ints=[0]),
        helper.make_node("Abs", ["w"], ["sizes"], "sizes"),
        helper.make_node("ReduceMean", ["sizes", "axes"], ["scale"], "scale", keepdims=1),
        helper.make_node("Sign", ["w"], ["signs"], "signs"),
        helper.make_node("Mul", ["signs", "scale"], ["binarized"], "binarize"),
        helper.make_node("MatMul", ["x", "binarized"], ["y"], "layer"),
    ]
    return model_of(nodes, {"w": WEIGHTS}, x=(1, 3), y=(1, 2))


def value(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = binarized_in_the_graph()
    golden("fold_constants-before", graph_text(inferred(before)))
    golden("fold_constants-after", graph_text(applied(before, fold_constants, remove_unused)))


def test_weights_that_are_binarized_in_the_graph_become_numbers_of_the_same_name() -> None:
    before = binarized_in_the_graph()
    after = applied(before, fold_constants)
    assert ops_of(after) == ["MatMul"]
    expected = np.sign(WEIGHTS) * np.abs(WEIGHTS).mean(0, keepdims=True)
    np.testing.assert_allclose(value(after, "binarized"), expected, rtol=1e-6)
    assert_same(before, after, floats(0, 1, 3))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({}, [1, 2, 3]), ({"start": 1}, [2, 3]), ({"start": -2, "end": -1}, [2]), ({"end": 0}, [])],
)
def test_the_shape_of_a_computed_tensor_is_a_constant(
    attributes: dict[str, int], expected: list[int]
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["computed"]),
        helper.make_node("Shape", ["computed"], ["shape"], **attributes),
        helper.make_node("ReduceProd", ["shape"], ["product"], keepdims=0),
        helper.make_node("Cast", ["product"], ["number"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["computed", "number"], ["y"]),
    ]
    before = model_of(nodes, {}, x=(1, 2, 3), y=(1, 2, 3))
    after = applied(before, fold_constants)
    assert ops_of(after) == ["Relu", "Mul"]
    assert value(after, "number") == np.prod(expected)


def test_the_size_of_a_computed_tensor_is_a_constant() -> None:
    nodes = [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Cast", ["size"], ["number"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "number"], ["y"]),
    ]
    after = applied(model_of(nodes, {}, x=(1, 6), y=(1, 6)), fold_constants)
    assert value(after, "number") == 6


def test_what_the_input_takes_part_in_stays() -> None:
    before = model_of(
        [helper.make_node("Add", ["x", "c"], ["y"])], {"c": np.float32(1)}, x=[1], y=[1]
    )
    assert ops_of(applied(before, fold_constants)) == ["Add"]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("RandomNormalLike", ["w"], ["noise"]),
        helper.make_node("Bernoulli", ["w"], ["noise"]),
        helper.make_node("Dropout", ["w", "half", "yes"], ["noise"]),
    ],
)
def test_what_is_random_stays(node: onnx.NodeProto) -> None:
    nodes = [node, helper.make_node("Mul", ["x", "noise"], ["y"])]
    constants = {"w": np.float32([0.5]), "half": np.float32(0.5), "yes": np.array(True)}
    after = applied(model_of(nodes, constants, x=[1], y=[1]), fold_constants)
    assert ops_of(after) == [node.op_type, "Mul"]


def test_a_constant_too_large_to_keep_stays_computed() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    before = model_of(nodes, {"shape": np.array([2**13, 2**12])}, x=[1], y=[1])
    model = ir.from_proto(inferred(before))
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "ReduceSum", "Add"]


def test_an_output_of_the_graph_stays_computed() -> None:
    before = model_of([helper.make_node("Neg", ["c"], ["y"])], {"c": np.float32([1])}, x=[1], y=[1])
    assert ops_of(applied(before, fold_constants)) == ["Neg"]


def test_what_onnxruntime_refuses_to_compute_stays() -> None:
    nodes = [
        helper.make_node("Gather", ["c", "index"], ["far"]),
        helper.make_node("Add", ["x", "far"], ["y"]),
    ]
    before = model_of(nodes, {"c": np.float32([1, 2]), "index": np.array([7])}, x=[1], y=[1])
    model = ir.from_proto(inferred(before))
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["Gather", "Add"]


def test_a_subgraph_stays() -> None:
    branches: dict[str, Any] = {}
    for name, number in (("then_branch", 1.0), ("else_branch", 2.0)):
        output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        node = helper.make_node("Constant", [], [name], value_floats=[number])
        branches[name] = helper.make_graph([node], name, [], [output])
    nodes = [
        helper.make_node("If", ["yes"], ["chosen"], **branches),
        helper.make_node("Add", ["x", "chosen"], ["y"]),
    ]
    model = ir.from_proto(inferred(model_of(nodes, {"yes": np.array(True)}, x=[1], y=[1])))
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["If", "Add"]


def test_a_constant_that_only_a_subgraph_uses_is_kept() -> None:
    branches: dict[str, Any] = {}
    for name, source in (("then_branch", "minus"), ("else_branch", "c")):
        output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        node = helper.make_node("Identity", [source], [name])
        branches[name] = helper.make_graph([node], name, [], [output])
    nodes = [
        helper.make_node("Neg", ["c"], ["minus"]),
        helper.make_node("If", ["yes"], ["chosen"], **branches),
        helper.make_node("Add", ["x", "chosen"], ["y"]),
    ]
    constants = {"c": np.float32([3]), "yes": np.array(True)}
    before = inferred(model_of(nodes, constants, x=[1], y=[1]))
    model = ir.from_proto(before)
    fold_constants(model)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert_same(before, after, floats(0, 1), tolerance=0)


def test_sizes_alone_are_folded_without_touching_floats() -> None:
    nodes = [
        helper.make_node("Add", ["some", "some"], ["size"]),
        helper.make_node("Sign", ["w"], ["signs"]),
        helper.make_node("Mul", ["x", "signs"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "size"], ["y"]),
    ]
    constants = {"some": np.array([1]), "w": np.float32([1, -1])}
    model = ir.from_proto(inferred(model_of(nodes, constants, x=[1, 2], y=[2])))
    assert fold_sizes(model)
    assert [node.op_type for node in model.graph] == ["Sign", "Mul", "Reshape"]
    assert not fold_sizes(model)
