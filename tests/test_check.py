from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from graphs import inferred
from networks import binarized, float_network, keyword_network, model_of
from onnx import helper, numpy_helper

from bicompile.check import check_inputs, check_pass, first_difference, observe, session
from bicompile.errors import UserError

JUST_ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))


def changed(model: onnx.ModelProto, constant: str, value: object) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (tensor,) = [t for t in copy.graph.initializer if t.name == constant]
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), constant))
    return copy


def steps(threshold: float, gain: float = 1.0, count: int = 4) -> onnx.ModelProto:
    """gain · sign(x − threshold)."""
    constants = {"one": 1, "minus": -1, "threshold": threshold, "gain": gain}
    nodes = [
        *binarized("x", "threshold", "a"),
        helper.make_node("Mul", ["a", "gain"], ["y"], "amplify"),
    ]
    arrays = {name: np.float32(value) for name, value in constants.items()}
    return model_of(nodes, arrays, x=(1, count), y=(1, count))


def compare(
    name: str, before: onnx.ModelProto, after: onnx.ModelProto, inputs: Sequence[np.ndarray]
) -> None:
    check_pass(name, observe(before, inputs), observe(after, inputs))


def ones(count: int = 4) -> list[np.ndarray]:
    return [np.ones((1, count), np.float32)] * 4


def test_inputs_are_always_the_same_and_of_three_magnitudes() -> None:
    first, second = check_inputs(float_network()), check_inputs(float_network())
    np.testing.assert_array_equal(first, second)
    assert {x.shape for x in first} == {(1, 6)}
    assert first[0].std() * 10 < first[2].std()


def test_the_same_graph_passes() -> None:
    model = inferred(keyword_network())
    compare("nothing", model, model, check_inputs(model))


def test_a_wrong_pass_is_caught_and_named() -> None:
    model = float_network()
    wrong = changed(model, "weights", numpy_helper.to_array(model.graph.initializer[0]) * 1.001)
    with pytest.raises(UserError) as caught:
        compare("clumsy", model, wrong, check_inputs(model))
    said = str(caught.value)
    assert said.startswith(
        "pass clumsy changed what the model computes at node dense (MatMul): "
        "output y differs by 0.0"
    )
    assert "on check input 0" in said


def test_reordered_sums_pass() -> None:
    model = float_network()
    close = changed(model, "weights", numpy_helper.to_array(model.graph.initializer[0]) * 1.000001)
    compare("reorder", model, close, check_inputs(model))


def test_rounding_noise_that_is_all_that_is_left_of_a_sum_passes() -> None:
    def model(noise: float) -> onnx.ModelProto:
        node = helper.make_node("Add", ["x", "noise"], ["y"])
        return model_of([node], {"noise": np.float32(noise)}, x=(1, 4), y=(1, 4))

    inputs = [*ones(), np.zeros((1, 4), np.float32)]
    compare("reorder", model(0), model(1e-7), inputs)
    with pytest.raises(UserError, match="on check input 4"):
        compare("clumsy", model(0), model(1e-5), inputs)


def test_noise_that_is_all_that_is_left_on_every_input_passes_and_more_does_not() -> None:
    weights = np.float32([[0.1], [0.3], [-0.4]])
    node = helper.make_node("MatMul", ["x", "weights"], ["y"], "product")
    before = model_of([node], {"weights": weights}, x=(1, 3), y=(1, 1))
    inputs = [np.full((1, 3), 10.0**i, np.float32) for i in range(4)]
    compare("reorder", before, changed(before, "weights", weights + np.float32(1e-8)), inputs)
    with pytest.raises(UserError, match="differs by"):
        compare("wrong", before, changed(before, "weights", weights + np.float32(1e-6)), inputs)


def test_a_sign_that_turns_at_its_threshold_is_tolerated_on_one_input() -> None:
    inputs = ones()
    inputs[1] = np.float32([[1, 2, 3, 0.5]])
    compare("reorder", steps(0.5), steps(JUST_ABOVE_HALF), inputs)


def test_a_sign_that_turns_on_most_inputs_is_not_tolerated() -> None:
    inputs = [np.float32([[1, 2, 3, 0.5]])] * 4
    with pytest.raises(UserError, match="pass reorder changed what the model computes"):
        compare("reorder", steps(0.5), steps(JUST_ABOVE_HALF), inputs)


def three_signs(*thresholds: float) -> onnx.ModelProto:
    """Σ sign(x − threshold): a network with three decisions."""
    constants = {"one": np.float32(1), "minus": np.float32(-1)}
    constants |= {f"t{i}": np.float32(t) for i, t in enumerate(thresholds)}
    nodes = [node for i in range(len(thresholds)) for node in binarized("x", f"t{i}", f"a{i}")]
    nodes.append(helper.make_node("Sum", [f"a{i}" for i in range(len(thresholds))], ["y"]))
    return model_of(nodes, constants, x=(1, 4), y=(1, 4))


def test_signs_that_turn_on_an_input_each_are_tolerated_although_all_outputs_differ() -> None:
    inputs = [np.float32([[9, 9, 9, edge]]) for edge in (0.5, 2, 4)]
    edges = [float(np.nextafter(np.float32(x[0, 3]), np.float32(9))) for x in inputs]
    compare("reorder", three_signs(0.5, 2, 4), three_signs(*edges), inputs)


def test_a_value_that_is_wrong_is_caught_although_signs_turn_before_and_behind_it() -> None:
    inputs = [np.float32([[9, 9, 9, edge]]) for edge in (0.5, 2, 4)]
    edges = [float(np.nextafter(np.float32(x[0, 3]), np.float32(9))) for x in inputs]
    before, after = three_signs(0.5, 2, 4), three_signs(*edges)
    for model, gain in ((before, 1), (after, 2)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(gain), "gain"))
        model.graph.node.append(helper.make_node("Mul", ["y", "gain"], ["z"], "amplify"))
        model.graph.output[0].name = "z"
    with pytest.raises(UserError, match=r"at node amplify \(Mul\): output z differs by 1 "):
        compare("clumsy", before, after, inputs)


def test_a_sign_that_turns_far_from_its_threshold_is_not_tolerated() -> None:
    inputs = ones()
    inputs[1] = np.float32([[1, 2, 3, 0.6]])
    with pytest.raises(UserError, match="on check input 1"):
        compare("clumsy", steps(0.5), steps(0.7), inputs)


def test_a_nan_or_infinity_that_appears_is_caught() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match="differs by inf"):
            compare("clumsy", steps(0.5), steps(0.5, gain=bad), ones())


def test_nan_and_infinity_that_were_there_before_pass() -> None:
    for bad in (np.nan, np.inf):
        compare("nothing", steps(0.5, gain=bad), steps(0.5, gain=bad), ones())


def test_a_difference_behind_an_infinite_number_names_the_node_that_made_it() -> None:
    constants = {"none": np.float32([0, 1]), "weights": np.ones((2, 1), np.float32)}
    nodes = [
        helper.make_node("Div", ["x", "none"], ["divided"], "divide"),
        helper.make_node("MatMul", ["divided", "weights"], ["y"], "product"),
    ]
    before = model_of(nodes, constants, x=(1, 2), y=(1, 1))
    after = changed(before, "weights", [[-1], [1]])
    with pytest.raises(UserError, match=r"node divide \(Div\) computes an infinite number"):
        compare("wrong", before, after, check_inputs(before))


def test_a_sign_op_counts_as_a_threshold_at_zero() -> None:
    def model(shift: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Add", ["x", "shift"], ["v"]),
            helper.make_node("Sign", ["v"], ["y"]),
        ]
        return model_of(nodes, {"shift": np.float32(shift)}, x=(1, 4), y=(1, 4))

    inputs = ones()
    inputs[1] = np.float32([[1, 2, 3, 1e-7]])
    compare("reorder", model(0), model(-2e-7), inputs)


def test_integers_may_be_compared() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["integer"], to=onnx.TensorProto.INT8),
        *binarized("integer", "threshold", "y"),
    ]
    constants = {"one": np.float32(1), "minus": np.float32(-1), "threshold": np.int8(-100)}
    model = model_of(nodes, constants, x=(1, 4), y=(1, 4))
    compare("nothing", model, model, ones())


def test_values_may_have_any_name() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["decision0"]),
        *binarized("decision0", "threshold", "y"),
    ]
    constants = {"one": np.float32(1), "minus": np.float32(-1), "threshold": np.float32(0.5)}
    model = model_of(nodes, constants, x=(1, 4), y=(1, 4))
    compare("nothing", model, model, ones())


def test_a_model_that_onnxruntime_refuses_is_refused_in_one_sentence() -> None:
    model = float_network()
    model.ir_version = 1000
    with pytest.raises(UserError, match=r"^onnxruntime, .* cannot run the model") as caught:
        session(model)
    assert "\n" not in str(caught.value)


def chain(*ops: tuple[str, str, str]) -> onnx.ModelProto:
    """Ops from x to y, each (op, node name, output)."""
    sources = ["x", *(output for _, _, output in ops)]
    nodes = [
        helper.make_node(op, [source], [output], name)
        for source, (op, name, output) in zip(sources, ops, strict=False)
    ]
    return model_of(nodes, {}, x=(1, 4), y=(1, 4))


TANH, ABS = ("Tanh", "first", "t"), ("Abs", "second", "a")
EXP = ("Exp", "last", "y")


def test_two_graphs_part_at_the_first_node_whose_value_differs() -> None:
    after = chain(TANH, ("Neg", "second", "a"), EXP)
    assert first_difference(chain(TANH, ABS, EXP), after, ones()[0]) == "second (Abs)"


def test_two_graphs_part_at_the_node_that_a_rewrite_removed() -> None:
    after = chain(TANH, ("Neg", "second/new", "new"), ("Abs", "second/newer", "newer"), EXP)
    before = chain(TANH, ("Neg", "second", "a"), EXP)
    assert first_difference(before, after, ones()[0]) == "second (Neg)"


def test_two_graphs_part_at_a_choice_of_bits() -> None:
    inputs = np.float32([[1, 2, 3, 0.6]])
    assert first_difference(steps(0.5), steps(0.7), inputs) == "a_bit (GreaterOrEqual)"


def test_a_pass_that_leaves_a_graph_that_does_not_run_is_named() -> None:
    model = float_network()
    broken = changed(model, "weights", np.ones((7, 5)))
    with pytest.raises(UserError, match="cannot run the graph after pass clumsy"):
        observe(broken, check_inputs(model), "the graph after pass clumsy")
