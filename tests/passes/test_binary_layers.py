from collections.abc import Callable

import numpy as np
import onnx
import pytest
from binary_layer_graphs import CONV1, CONV2, assert_binary, layer, rewritten, weights_of
from graphs import SIGN, applied, assert_same, floats, inferred, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import binarized, model_of
from onnx import helper, numpy_helper

from bicompile.graph_text import graph_text
from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused


def test_a_linear_layer_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = applied(
        layer("MatMul", (1, 2, 3), weights_of(0, 3, 4), axes=[-1]), normalise_sign, remove_unused
    )
    golden("binary_layers-linear-before", graph_text(before))
    golden("binary_layers-linear-after", graph_text(applied(before, binary_layers, remove_unused)))


def test_a_padded_convolution_before_and_after(golden: Callable[[str, str], None]) -> None:
    model = layer("Conv", (1, 1, 2, 3), weights_of(0, 2, 1, 3, 3), single=True, pads=[1, 1, 1, 1])
    golden("binary_layers-conv-before", graph_text(inferred(model)))
    golden("binary_layers-conv-after", graph_text(applied(model, binary_layers, remove_unused)))


def test_a_depthwise_layer_with_scales_before_and_after(golden: Callable[[str, str], None]) -> None:
    weights = weights_of(0, 2, 1, 3) * np.array([0.5, -2], np.float32)[:, None, None]
    model = layer("Conv", (1, 2, 4), weights, axes=[2], bias=floats(1, 2), group=2, pads=[1, 1])
    before = applied(model, normalise_sign, remove_unused)
    golden("binary_layers-depthwise-before", graph_text(before))
    golden(
        "binary_layers-depthwise-after", graph_text(applied(before, binary_layers, remove_unused))
    )


@pytest.mark.parametrize("outputs", [5, 15])
@pytest.mark.parametrize("axes", [[2], [1, 2]], ids=["per channel", "per sample"])
def test_a_depthwise_convolution_takes_a_scale_for_every_channel(
    outputs: int, axes: list[int]
) -> None:
    model = layer("Conv", CONV1, weights_of(0, outputs, 1, 3), axes=axes, group=5, pads=[1, 1])
    assert_binary(model, "BinaryConv1d", 2)


def test_a_scale_may_vary_along_an_axis_that_the_window_does_not_see() -> None:
    model = layer("Conv", CONV2, weights_of(0, 4, 5, 1, 3), axes=[1, 3], pads=[0, 1, 0, 1])
    assert_binary(model, "BinaryConv2d", 2)


SCALES = np.array([0.25, -3.0, 0.0, 1e-3], np.float32)


@pytest.mark.parametrize("single", [True, False])
def test_a_weight_scale_for_every_output_comes_out_of_the_sum(single: bool) -> None:
    weights = weights_of(0, 4, 5, 3, 3) * SCALES[:, None, None, None]
    model = layer(
        "Conv", CONV2, weights, bias=floats(1, 4), theta2=0.7, single=single, pads=[1] * 4
    )
    assert_binary(model, "BinaryConv2d", 1 if single else 2)


def test_one_weight_scale_for_all_outputs_is_one_number() -> None:
    after = rewritten(layer("MatMul", (1, 5), weights_of(0, 5, 4) * np.float32(0.3), single=True))
    constants = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    assert constants["layer/weight_scale"] == np.float32(0.3)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    magnitudes=st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=3, max_size=3),
)
def test_what_a_straight_through_residue_leaves_is_rounding(
    seed: int, magnitudes: list[float]
) -> None:
    # An odd count of ±σ has no sum near zero, where rounding would be all there is.
    latent = floats(seed, 3, 9) * np.array(magnitudes, np.float32)[:, None]
    scale = np.abs(latent).mean(axis=1, keepdims=True)
    rounded = (np.sign(latent) * scale - latent) + latent
    model = layer("MatMul", (1, 9), rounded.T.copy(), single=True)
    assert_binary(model, "BinaryLinear", 1, floats(seed + 1, 1, 9))


@pytest.mark.parametrize(
    "theta", [floats(0, 7), floats(0, 5, 7), floats(0, 1, 5, 7)], ids=["frame", "both", "whole"]
)
@pytest.mark.parametrize("slope", [0.4, -0.4])
def test_a_threshold_for_every_position_is_subtracted_first(
    theta: np.ndarray, slope: float
) -> None:
    weights = weights_of(0, 4, 5, 3)
    model = layer("Conv", CONV1, weights, single=True, theta=theta, slope=slope)
    at_threshold = np.broadcast_to(theta, CONV1).astype(np.float32)
    beside = np.nextafter(at_threshold, np.float32(np.inf))
    special = np.where(floats(0, *CONV1) > 0, np.float32(np.nan), np.float32(-np.inf))
    inputs = (at_threshold, beside, -at_threshold, special, floats(1, *CONV1))
    assert_binary(model, "BinaryConv1d", 1, *inputs)


def test_a_tensor_that_its_threshold_broadcasts_is_made_whole_first() -> None:
    weights = weights_of(0, 4, 5, 1)
    model = layer("Conv", (1, 1, 7), weights, single=True, theta=floats(0, 5, 1))
    assert_binary(model, "BinaryLinear", 1)


def test_a_sign_of_doubles_becomes_binary() -> None:
    constants = {**SIGN, "theta": np.array(1e-300), "w": weights_of(0, 5, 4)}
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.DOUBLE),
        *binarized("wide", "theta", "a"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "layer"),
    ]
    zeros = np.zeros((1, 5), np.float32)
    model = model_of(nodes, constants, x=(1, 5), y=(1, 4))
    assert_binary(model, "BinaryLinear", 1, floats(0, 1, 5), zeros)


@pytest.mark.parametrize("x", [(1, 9), (1, 6, 9), (1, 2, 3, 9)])
@pytest.mark.parametrize("single", [True, False])
def test_a_matmul_becomes_binary(x: tuple[int, ...], single: bool) -> None:
    model = layer("MatMul", x, weights_of(0, 9, 4), axes=[-1], single=single)
    assert_binary(model, "BinaryLinear", 1 if single else 2)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "window",
    [
        {"pads": [2, 2, 2, 2], "strides": [2, 2]},
        {"pads": [1, 0, 2, 3], "strides": [1, 3]},
        {"pads": [2, 2, 2, 2], "dilations": [2, 1]},
        {},
    ],
    ids=str,
)
def test_a_convolution_becomes_binary_exactly_at_its_borders(
    window: dict[str, list[int]], bias: bool, single: bool
) -> None:
    model = layer(
        "Conv",
        CONV2,
        weights_of(0, 4, 5, 3, 3),
        bias=floats(1, 4) if bias else None,
        theta=floats(2, 5, 1, 1),
        theta2=floats(3, 5, 1, 1),
        single=single,
        **window,
    )
    assert_binary(model, "BinaryConv2d", 1 if single else 2)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 17])
def test_any_number_of_channels_becomes_binary(channels: int) -> None:
    assert_binary(
        layer("Conv", (1, channels, 4), weights_of(0, 3, channels, 1), axes=[1]), "BinaryLinear", 2
    )


@pytest.mark.parametrize("slope", [0.4, -0.4])
@pytest.mark.parametrize("single", [True, False])
def test_inputs_at_their_threshold_take_the_same_sign(slope: float, single: bool) -> None:
    theta = floats(2, 5, 1)
    model = layer(
        "Conv", CONV1, weights_of(0, 4, 5, 1), axes=[1], slope=slope, theta=theta, single=single
    )
    at_threshold = np.broadcast_to(theta, CONV1).copy()
    mixed = np.where(floats(0, *CONV1) > 0, at_threshold, floats(1, *CONV1))
    assert_binary(model, "BinaryLinear", 1 if single else 2, at_threshold, mixed)


def test_a_threshold_of_zero_takes_both_zeros_for_plus_one() -> None:
    model = layer("MatMul", (1, 4), np.ones((4, 1), np.float32), single=True, theta=0.0)
    x = np.array([[0.0, -0.0, -0.0, -1e-45]], np.float32)
    assert run(rewritten(model), x) == 2


def test_nan_is_minus_one_before_and_after() -> None:
    model = layer("MatMul", (1, 4), np.ones((4, 1), np.float32), single=True)
    x = np.array([[np.nan, 1, np.inf, -np.inf]], np.float32)
    assert run(inferred(model), x) == run(rewritten(model), x) == 0


def test_accumulators_of_a_single_sign_are_the_exact_integers() -> None:
    model = layer("Conv", (1, 37, 9, 8), weights_of(0, 4, 37, 3, 3), single=True, pads=[1] * 4)
    assert_same(model, rewritten(model), floats(0, 1, 37, 9, 8), tolerance=0)


def test_a_constant_per_frame_is_summed_per_frame() -> None:
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 1), axes=[1], theta2=floats(1, 5, 7))
    assert_binary(model, "BinaryLinear", 2)


def test_two_layers_may_share_an_activation() -> None:
    constants = {**SIGN, "theta": np.float32(0.1)}
    constants |= {"w1": weights_of(0, 4, 5, 1), "w2": weights_of(1, 4, 5, 1)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Conv", ["a", "w1"], ["p"], "left"),
        helper.make_node("Conv", ["a", "w2"], ["q"], "right"),
        helper.make_node("Sub", ["p", "q"], ["y"]),
    ]
    model = model_of(nodes, constants, x=CONV1, y=(1, 4, 7))
    assert_binary(model, "BinaryLinear", 2)


def test_two_layers_may_share_their_weights() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5, 1)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Conv", ["a", "w"], ["p"], "first"),
        *binarized("p", "theta", "b"),
        helper.make_node("Conv", ["b", "w"], ["y"], "second"),
    ]
    assert_binary(model_of(nodes, constants, x=CONV1, y=CONV1), "BinaryLinear", 2)


def test_an_activation_may_also_be_used_by_something_else() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5, 1)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Conv", ["a", "w"], ["p"], "layer"),
        helper.make_node("Add", ["p", "a"], ["y"]),
    ]
    assert_binary(model_of(nodes, constants, x=CONV1, y=CONV1), "BinaryLinear", 1)


def test_layers_without_a_name_get_names_of_their_own() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5, 1)}
    nodes = [
        *binarized("x", "theta", "a"),
        helper.make_node("Conv", ["a", "w"], ["p"]),
        *binarized("p", "theta", "b"),
        helper.make_node("Conv", ["b", "w"], ["y"]),
    ]
    assert_binary(model_of(nodes, constants, x=CONV1, y=CONV1), "BinaryLinear", 2)


def test_new_names_leave_those_of_the_graph_alone() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 5, 5, 1)}
    nodes = [
        *binarized("x", "theta", "layer/weights"),
        helper.make_node("Relu", ["layer/weights"], ["layer/Threshold"], "layer/Cast"),
        helper.make_node("Conv", ["layer/weights", "w"], ["p"], "layer"),
        helper.make_node("Add", ["p", "layer/Threshold"], ["y"]),
    ]
    assert_binary(model_of(nodes, constants, x=CONV1, y=CONV1), "BinaryLinear", 1)


def test_the_output_of_the_graph_keeps_its_name() -> None:
    after = rewritten(layer("Conv", CONV1, weights_of(0, 4, 5, 1), single=True))
    assert [value.name for value in after.graph.output] == ["y"]


def test_every_plane_says_what_it_became_and_of_which_layer() -> None:
    after = rewritten(layer("Conv", CONV1, weights_of(0, 4, 5, 1), axes=[1]))
    planes = [node for node in after.graph.node if node.op_type == "BinaryLinear"]
    for plane in planes:
        notes = {note.key: note.value for note in plane.metadata_props}
        assert notes == {
            "bicompile.decision": "binary: BinaryLinear, 5 products a sum",
            "bicompile.layer": "layer",
        }
