from typing import Any

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


def test_a_weight_of_zero_stays_float() -> None:
    weights = weights_of(0, 4, 5, 1)
    weights[2, 3] = 0
    model = layer("Conv", CONV1, weights, single=True)
    assert_float(model, "float: its weights are -1, 0, 1, ±1 is needed")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.0000001])
def test_a_weight_that_is_not_one_stays_float(bad: float) -> None:
    weights = np.ones((4, 5, 1), np.float32)
    weights[2, 3] = bad
    model = layer("Conv", CONV1, weights, single=True)
    assert_float(model, f"float: its weights are 1, {bad:g}, ±1 is needed")


def test_float_weights_stay_float() -> None:
    model = layer("Conv", CONV1, floats(0, 4, 5, 1), single=True)
    assert_float(model, "float: its weights take 20 values, ±1 is needed")


def test_weights_that_are_computed_stay_float() -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"], "square")]
    assert_float(
        model_of(nodes, {}, x=(1, 3, 3), y=(1, 3, 3)), "float: its weights are not constant"
    )


def test_groups_stay_float() -> None:
    model = layer("Conv", (1, 6, 5), weights_of(0, 4, 3, 1), single=True, group=2)
    assert_float(
        model,
        f"{LOOKS}it has 2 groups, so a sum has only 3 products: float arithmetic with ±1 weights",
    )


def test_a_convolution_over_time_stays_float() -> None:
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 3), single=True)
    assert_float(model, f"{LOOKS}its kernel is 3, 1x1 and 2-d are known")


def test_a_1x1_convolution_over_time_with_strides_stays_float() -> None:
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 1), single=True, strides=[2])
    assert_float(model, f"{LOOKS}only 2-d convolutions may have strides or pads")


def test_automatic_padding_stays_float() -> None:
    weights = weights_of(0, 4, 5, 3, 3)
    model = layer("Conv", CONV2, weights, single=True, auto_pad="SAME_UPPER")
    assert_float(model, f"{LOOKS}its padding is SAME_UPPER, explicit pads are needed")


def test_a_transposed_convolution_stays_float() -> None:
    model = layer("ConvTranspose", CONV1, weights_of(0, 5, 4, 1), single=True)
    assert_float(model, f"{LOOKS}a transposed convolution has no binary kernel")


def test_a_stack_of_matrices_stays_float() -> None:
    model = layer("MatMul", (1, 6, 5), weights_of(0, 1, 5, 4), single=True)
    assert_float(model, f"{LOOKS}its weights have 3 axes, a matrix is needed")


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}])
def test_a_gemm_with_scales_stays_float(attributes: dict[str, Any]) -> None:
    rows = 1 if "transA" in attributes else 5
    model = layer("Gemm", (1, 5), weights_of(0, rows, 4), single=True, **attributes)
    assert_float(model, f"{LOOKS}its alpha, beta or transA is not the default")


def test_a_bias_that_is_computed_stays_float() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Gemm", ["a", "w", "x"], ["y"], "layer"),
    ]
    model = model_of(nodes, constants, x=(1, 5), y=(1, 5))
    assert_float(model, f"{LOOKS}its bias is not constant")


def test_a_threshold_per_frame_stays_float() -> None:
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 1), single=True, theta=floats(0, 7))
    assert_float(
        model, f"{LOOKS}the threshold of x has shape (7,), one number per channel is needed"
    )


def test_a_tensor_broadcast_by_its_threshold_stays_float() -> None:
    model = layer("Conv", (1, 1, 7), weights_of(0, 4, 5, 1), single=True, theta=floats(0, 5, 1))
    assert_float(
        model,
        f"{LOOKS}x of shape (1, 1, 7) was broadcast to (1, 5, 7); compare the whole tensor",
    )


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


def test_a_sum_that_doubles_forty_times_is_left_in_no_time() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 4, 5, 1)}
    nodes, value = binarized("x", "theta", "a"), "a"
    for step in range(40):
        nodes.append(helper.make_node("Add", [value, value], [f"v{step}"]))
        value = f"v{step}"
    nodes.append(helper.make_node("Conv", [value, "w"], ["y"], "layer"))
    assert_float(
        model_of(nodes, constants, x=CONV1, y=(1, 4, 7)),
        f"{LOOKS}its input v39 (from Add) is a sum of more than a few parts",
    )


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


def test_doubles_are_not_compared_as_floats() -> None:
    constants = {**SIGN, "theta": np.array(1e-300), "w": weights_of(0, 5, 4)}
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.DOUBLE),
        *binarized("wide", "theta", "a"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "layer"),
    ]
    assert_float(
        model_of(nodes, constants, x=(1, 5), y=(1, 4)),
        f"{LOOKS}its input a (from Where) is not a sum of ±1 tensors with scales",
    )


def test_the_rewritten_graph_has_no_float_product_left() -> None:
    after = rewritten(layer("Conv", CONV2, weights_of(0, 4, 5, 3, 3), pads=[1] * 4))
    del after.functions[:]
    assert not {"Conv", "MatMul", "Gemm"} & set(ops_of(after))
    with pytest.raises(Exception, match="bicompile"):
        session(after)
