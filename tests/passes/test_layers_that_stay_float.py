import numpy as np
import onnx
import pytest
from binary_layer_graphs import CONV1, CONV2, LOOKS, assert_float, layer, rewritten, weights_of
from graphs import (
    SIGN,
    floats,
    ops_of,
)
from networks import binarized, model_of
from onnx import helper

from bicompile.check import session


@pytest.mark.parametrize(
    ("op", "x", "weights", "axes", "shape"),
    [
        ("Conv", CONV1, (4, 5, 1), [2], (1, 5, 1)),
        ("Conv", CONV2, (4, 5, 3, 3), [1], (1, 1, 6, 7)),
        ("Conv", CONV2, (4, 5, 3, 3), [2, 3], (1, 5, 1, 1)),
        ("MatMul", (1, 6, 5), (5, 4), [1], (1, 1, 5)),
        ("Gemm", (1, 5), (5, 4), [0], (1, 5)),
    ],
)
def test_a_scale_that_varies_along_the_sum_stays_float(
    op: str,
    x: tuple[int, ...],
    weights: tuple[int, ...],
    axes: list[int],
    shape: tuple[int, ...],
) -> None:
    assert_float(
        layer(op, x, weights_of(0, *weights), axes=axes),
        f"{LOOKS}the scale a_s of shape {shape} varies along what it sums over; "
        "a popcount cannot factor it",
    )


def test_weights_that_are_computed_stay_float() -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"], "square")]
    assert_float(
        model_of(nodes, {}, x=(1, 3, 3), y=(1, 3, 3)), "float: its weights are not constant"
    )


def test_a_transposed_convolution_stays_float() -> None:
    model = layer("ConvTranspose", CONV1, weights_of(0, 5, 4, 1), single=True)
    assert_float(model, f"{LOOKS}a transposed convolution has no binary kernel")


def test_a_bias_that_is_computed_stays_float() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Gemm", ["a", "w", "x"], ["y"], "layer"),
    ]
    model = model_of(nodes, constants, x=(1, 5), y=(1, 5))
    assert_float(model, f"{LOOKS}its bias is not constant")


def test_a_float_activation_stays_float() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], "layer"),
    ]
    model = model_of(nodes, {"w": weights_of(0, 4, 5, 1)}, x=CONV1, y=(1, 4, 7))
    assert_float(model, f"{LOOKS}its input a (from Relu) is not a sum of ±1 tensors with scales")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_constant_that_is_not_finite_stays_float(bad: float) -> None:
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 1), axes=[1], theta2=bad)
    assert_float(model, f"{LOOKS}the constant theta2 in its input is not finite")


def test_a_constant_input_stays_float() -> None:
    constants = {"w": weights_of(0, 4, 5, 1), "c": floats(0, *CONV1)}
    nodes = [
        helper.make_node("Conv", ["c", "w"], ["p"], "layer"),
        helper.make_node("Mul", ["p", "x"], ["y"]),
    ]
    model = model_of(nodes, constants, x=(1, 4, 7), y=(1, 4, 7))
    assert_float(model, f"{LOOKS}its input is constant")


def test_integers_stay_as_they_are() -> None:
    constants = {"theta": np.float32(0.1), "w": weights_of(0, 5, 4).astype(np.int32)}
    constants |= {"one": np.int32(1), "minus": np.int32(-1)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("MatMul", ["a", "w"], ["p"], "layer"),
        helper.make_node("Cast", ["p"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    model = model_of(nodes, constants, x=(1, 5), y=(1, 4))
    assert_float(model, "float: its weights are int32, float32 is needed")


def test_the_rewritten_graph_has_no_float_product_left() -> None:
    after = rewritten(layer("Conv", CONV2, weights_of(0, 4, 5, 3, 3), pads=[1] * 4))
    del after.functions[:]
    assert not {"Conv", "MatMul", "Gemm"} & set(ops_of(after))
    with pytest.raises(Exception, match="bicompile"):
        session(after)
