import time

import numpy as np
import onnx_ir as ir
import pytest
from graphs import applied, inferred
from networks import model_of, signs
from onnx import helper

from bicompile.passes import PASSES
from bicompile.passes.graph import Builder, constant, names_in, scalar


def model_with(*nodes: object, **constants: np.ndarray) -> ir.Model:
    return ir.from_proto(inferred(model_of(nodes, constants, x=(1, 4), y=(1, 4))))


RELU = helper.make_node("Relu", ["x"], ["y"], "relu")


def test_a_new_node_is_named_after_its_anchor() -> None:
    model = model_with(RELU)
    anchor = model.graph.node(0)
    value = Builder(anchor, names_in(model.graph)).node("Neg", [model.graph.inputs[0]], (1, 4))
    assert (value.name, value.producer().name) == ("relu/Neg", "relu/Neg")


def test_a_taken_name_gets_a_number() -> None:
    model = model_with(RELU, **{"relu/Neg": np.float32(1)})
    names = names_in(model.graph)
    build = Builder(model.graph.node(0), names)
    x = model.graph.inputs[0]
    assert [build.node("Neg", [x], (1, 4)).name for _ in range(2)] == ["relu/Neg_1", "relu/Neg_2"]
    assert {"relu/Neg_1", "relu/Neg_2"} <= names


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_a_new_constant_keeps_its_shape(shape: tuple[int, ...]) -> None:
    model = model_with(RELU)
    array = np.array(np.ones(shape, np.float32), order="F")
    value = Builder(model.graph.node(0), names_in(model.graph)).constant("one", array)
    assert tuple(value.shape) == tuple(value.const_value.shape) == shape


def test_names_inside_of_a_subgraph_are_taken() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["inner"], "within")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", 1, [1, 4])],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["inner2"])],
        "other",
        [],
        [helper.make_tensor_value_info("inner2", 1, [1, 4])],
    )
    node = helper.make_node("If", ["yes"], ["y"], "if", then_branch=branch, else_branch=other)
    model = model_with(node, yes=np.array(True))
    assert {"x", "y", "yes", "if", "inner", "inner2", "within"} <= names_in(model.graph)


def test_only_a_float32_of_one_element_is_a_scalar() -> None:
    values = {
        "good": np.float32([[2]]),
        "two": np.float32([1, 2]),
        "integer": np.array(2),
        "text": np.array(["2"], object),
    }
    model = model_with(RELU, **values)
    found = {name: scalar(model.graph.initializers[name]) for name in values}
    assert found == {"good": 2.0, "two": None, "integer": None, "text": None}


def test_the_output_of_a_constant_node_is_constant() -> None:
    node = helper.make_node("Constant", [], ["c"], value_float=2.5)
    model = model_with(node, helper.make_node("Mul", ["x", "c"], ["y"]))
    assert constant(model.graph.node(0).outputs[0]) == np.float32(2.5)


def test_an_input_is_not_constant() -> None:
    assert constant(model_with(RELU).graph.inputs[0]) is None


@pytest.mark.slow
def test_time_grows_with_the_number_of_layers_and_not_its_square() -> None:
    def seconds(layers: int) -> float:
        generator = np.random.default_rng(0)
        constants = {"one": np.float32(1), "minus": np.float32(-1), "zero": np.float32(0)}
        nodes, value = [], "x"
        for index in range(layers):
            constants[f"w{index}"] = signs(generator, 4, 4)
            result = "y" if index == layers - 1 else f"v{index}"
            nodes += [
                helper.make_node("GreaterOrEqual", [value, "zero"], [f"bit{index}"]),
                helper.make_node("Where", [f"bit{index}", "one", "minus"], [f"sign{index}"]),
                helper.make_node("MatMul", [f"sign{index}", f"w{index}"], [result], f"l{index}"),
            ]
            value = result
        model = ir.from_proto(inferred(model_of(nodes, constants, x=(1, 4), y=(1, 4))))
        start = time.perf_counter()
        for each in PASSES:
            each(model)
        return time.perf_counter() - start

    seconds(10)
    assert seconds(1600) < 12 * seconds(200)


def test_a_residual_chain_of_a_thousand_sums_is_read() -> None:
    constants = {"one": np.float32(1), "w": signs(np.random.default_rng(0), 4, 4)}
    nodes, value = [], "x"
    for index in range(1000):
        nodes.append(helper.make_node("Add", [value, "x"], [f"v{index}"]))
        value = f"v{index}"
    nodes.append(helper.make_node("MatMul", [value, "w"], ["y"], "layer"))
    after = applied(model_of(nodes, constants, x=(1, 4), y=(1, 4)), *PASSES)
    assert after.graph.node[-1].op_type == "MatMul"
