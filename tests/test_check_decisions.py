"""Where a last bit may decide: comparisons, signs and roundings."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import inferred, run
from networks import model_of
from onnx import TensorProto, helper

from bicompile.check import check_pass, observe, with_sign_of_zero
from bicompile.errors import UserError
from bicompile.passes.sign_of_zero import CHOICE, sign_of_zero

SHAPE = (1, 4)
ROUNDINGS = {"Round": 1.5, "Floor": 2.0, "Ceil": 2.0}


def rounded(op: str, shift: float, *, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """op(x + shift), computed in another type."""
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["v"]),
        helper.make_node("Cast", ["v"], ["cast"], to=kind),
        helper.make_node(op, ["cast"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["y"], to=TensorProto.FLOAT),
    ]
    return model_of(nodes, {"shift": np.float32(shift)}, x=SHAPE, y=SHAPE)


def inputs(last: float) -> list[np.ndarray]:
    """Four inputs, one of which has a last element that matters."""
    usual = np.float32([[0.75, -0.25, 3.25, 0.75]])
    special = usual.copy()
    special[0, -1] = last
    return [usual, special, usual, usual]


def compare(before: onnx.ModelProto, after: onnx.ModelProto, last: float) -> None:
    check_pass("reorder", observe(before, inputs(last)), observe(after, inputs(last)))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("op", ROUNDINGS)
def test_a_number_that_lies_where_a_rounding_jumps_may_jump(op: str, kind: int) -> None:
    edge = float(np.nextafter(np.float32(ROUNDINGS[op]), np.float32(9 if op == "Floor" else -9)))
    shift = -1e-6 if op == "Floor" else 1e-6
    compare(rounded(op, 0, kind=kind), rounded(op, shift, kind=kind), edge)


@pytest.mark.parametrize("op", ROUNDINGS)
def test_a_number_that_lies_elsewhere_may_not(op: str) -> None:
    with pytest.raises(UserError, match="on check input 1"):
        compare(rounded(op, 0), rounded(op, 0.1), ROUNDINGS[op] - 0.05)


def test_a_number_that_may_equal_another_may_do_so() -> None:
    def model(shift: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Add", ["x", "shift"], ["v"]),
            helper.make_node("Equal", ["v", "two"], ["bit"]),
            helper.make_node("Cast", ["bit"], ["y"], to=TensorProto.FLOAT),
        ]
        constants = {"shift": np.float32(shift), "two": np.float32(2)}
        return model_of(nodes, constants, x=SHAPE, y=SHAPE)

    compare(model(0), model(1e-6), 2.0)
    with pytest.raises(UserError, match="on check input 1"):
        compare(model(0), model(0.5), 1.5)


def sign_of_relu() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["v"]),
        helper.make_node("Sign", ["v"], ["y"], "sign"),
    ]
    return inferred(model_of(nodes, {}, x=SHAPE, y=SHAPE))


@pytest.mark.parametrize(("choice", "at_zero"), [("plus", 1), ("minus", -1)])
def test_a_sign_of_zero_can_be_told_what_to_give(choice: str, at_zero: int) -> None:
    x = np.float32([[-2, 0.0, -0.0, 3]])
    decided = with_sign_of_zero(sign_of_relu(), choice)
    np.testing.assert_array_equal(run(decided, x), [[at_zero, at_zero, at_zero, 1]])


@pytest.mark.parametrize("choice", ["plus", "minus"])
def test_the_pass_that_takes_the_choice_agrees_with_it_on_zeros(choice: str) -> None:
    before = sign_of_relu()
    model = ir.from_proto(before)
    model.metadata_props[CHOICE] = choice
    sign_of_zero(model)
    zeros = [np.zeros(SHAPE, np.float32)] * 4
    expected = observe(with_sign_of_zero(before, choice), zeros)
    check_pass("sign_of_zero", expected, observe(ir.to_proto(model), zeros))


def test_the_sign_of_an_integer_stays() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sign", ["whole"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    model = inferred(model_of(nodes, {}, x=SHAPE, y=SHAPE))
    assert with_sign_of_zero(model, "plus").graph.node == model.graph.node
