from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import SIGN, assert_true_shapes, floats, inferred, ops_of, run
from networks import model_of, signs
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.graph import ASSUMED
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused
from bicompile.passes.sign_of_zero import CHOICE, sign_of_zero

SHAPE = (1, 5)
ZEROS = np.array([[0.0, -0.0, 1e-45, -1e-45, 2.0]], np.float32)


def signed(slope: float = 1.0) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "slope"], ["turned"], "turn"),
        helper.make_node("Sign", ["turned"], ["y"], "sign"),
    ]
    return model_of(nodes, {"slope": np.float32(slope)}, x=SHAPE, y=SHAPE)


def decided(proto: onnx.ModelProto, choice: str) -> onnx.ModelProto:
    model = ir.from_proto(inferred(proto))
    model.metadata_props[CHOICE] = choice
    for each in (normalise_sign, sign_of_zero, remove_unused):
        each(model)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert_true_shapes(after)
    return after


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    golden("sign_of_zero-before", graph_text(inferred(signed(-2))))
    golden("sign_of_zero-after", graph_text(decided(signed(-2), "minus")))


@pytest.mark.parametrize("slope", [1.0, -1.0])
@pytest.mark.parametrize(("choice", "at_zero"), [("plus", 1), ("minus", -1)])
def test_zero_of_either_sign_takes_the_bit_that_was_chosen(
    choice: str, at_zero: int, slope: float
) -> None:
    after = decided(signed(slope), choice)
    assert ops_of(after)[-1] == "Where"
    beside = [slope, -slope, slope]
    np.testing.assert_array_equal(run(after, ZEROS), [[at_zero, at_zero, *beside]])


def test_a_threshold_is_found_through_what_comes_before_the_sign() -> None:
    assert ops_of(decided(signed(-2), "plus")) == ["LessOrEqual", "Where"]


def test_a_strict_sign_stays() -> None:
    assert ops_of(decided(signed(), "strict")) == ["Mul", "Sign"]


def test_a_model_that_says_nothing_is_strict() -> None:
    model = ir.from_proto(inferred(signed()))
    sign_of_zero(model)
    assert [node.op_type for node in model.graph] == ["Mul", "Sign"]


@pytest.mark.parametrize("choice", ["plus", "minus"])
def test_other_numbers_keep_their_signs(choice: str) -> None:
    x = np.concatenate([floats(0, 4), [np.inf]]).astype(np.float32)[None]
    np.testing.assert_array_equal(run(decided(signed(), choice), x), np.sign(x))


@pytest.mark.parametrize("choice", ["plus", "minus"])
def test_zeros_that_the_graph_takes_care_of_are_not_touched(choice: str) -> None:
    nodes = [
        helper.make_node("Sign", ["x"], ["once"]),
        helper.make_node("Add", ["once", "tenth"], ["shifted"]),
        helper.make_node("Sign", ["shifted"], ["y"]),
    ]
    after = decided(model_of(nodes, {"tenth": np.float32(0.1)}, x=SHAPE, y=SHAPE), choice)
    np.testing.assert_array_equal(run(after, ZEROS), [[1, 1, 1, -1, 1]])
    assert not notes(after)


def test_a_sign_that_is_never_zero_is_not_touched() -> None:
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "one", "minus"], ["b"]),
        helper.make_node("MatMul", ["b", "weights"], ["sum"]),
        helper.make_node("Sign", ["sum"], ["y"]),
    ]
    constants = {**SIGN, "weights": signs(np.random.default_rng(0), 5, 5)}
    assert not notes(decided(model_of(nodes, constants, x=SHAPE, y=SHAPE), "minus"))


def test_the_choice_is_noted_on_the_node_that_relies_on_it() -> None:
    assert notes(decided(signed(), "plus")) == ["sign(0) taken as +1"]
    assert notes(decided(signed(-1), "minus")) == ["sign(0) taken as −1"]


def test_the_sign_of_a_constant_stays() -> None:
    nodes = [helper.make_node("Sign", ["w"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    before = model_of(nodes, {"w": np.float32([0])}, x=SHAPE, y=SHAPE)
    assert ops_of(decided(before, "plus")) == ["Sign", "Mul"]


def notes(model: onnx.ModelProto) -> list[str]:
    found = [note for node in model.graph.node for note in node.metadata_props]
    return [note.value for note in found if note.key == ASSUMED]
