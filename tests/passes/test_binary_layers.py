from collections.abc import Callable

import numpy as np
import pytest
from binary_layer_graphs import CONV1, CONV2, assert_binary, layer, rewritten, weights_of
from graphs import (
    SIGN,
    applied,
    assert_same,
    floats,
    inferred,
    run,
    shown,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import binarized, model_of
from onnx import helper

from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused


def test_a_linear_layer_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = applied(
        layer("MatMul", (1, 2, 3), weights_of(0, 3, 4), axes=[-1]), normalise_sign, remove_unused
    )
    golden("binary_layers-linear-before", shown(before))
    golden("binary_layers-linear-after", shown(applied(before, binary_layers, remove_unused)))


def test_a_padded_convolution_before_and_after(golden: Callable[[str, str], None]) -> None:
    model = layer("Conv", (1, 1, 2, 3), weights_of(0, 2, 1, 3, 3), single=True, pads=[1, 1, 1, 1])
    golden("binary_layers-conv-before", shown(inferred(model)))
    golden("binary_layers-conv-after", shown(applied(model, binary_layers, remove_unused)))


@pytest.mark.parametrize("x", [(1, 9), (1, 6, 9), (1, 2, 3, 9)])
@pytest.mark.parametrize("single", [True, False])
def test_a_matmul_becomes_binary(x: tuple[int, ...], single: bool) -> None:
    model = layer("MatMul", x, weights_of(0, 9, 4), axes=[-1], single=single)
    assert_binary(model, "BinaryLinear", 1 if single else 2)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,), ()])
def test_a_gemm_becomes_binary(transposed: int, bias: tuple[int, ...] | None) -> None:
    weights = weights_of(0, 9, 4)
    model = layer(
        "Gemm",
        (1, 9),
        weights.T.copy() if transposed else weights,
        axes=[-1],
        bias=None if bias is None else floats(1, *bias),
        transB=transposed,
    )
    assert_binary(model, "BinaryLinear", 2)


@pytest.mark.parametrize("x", [CONV1, CONV2, (1, 5, 2, 3, 2)])
@pytest.mark.parametrize("axes", [[1], None], ids=["per frame", "per sample"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_1x1_convolution_becomes_binary(
    x: tuple[int, ...], axes: list[int] | None, bias: bool
) -> None:
    weights = weights_of(0, 4, 5, *[1] * (len(x) - 2))
    model = layer("Conv", x, weights, axes=axes, bias=floats(1, 4) if bias else None)
    assert_binary(model, "BinaryLinear", 2)


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


def test_a_1x1_convolution_with_strides_becomes_binary() -> None:
    model = layer("Conv", CONV2, weights_of(0, 4, 5, 1, 1), strides=[2, 2])
    assert_binary(model, "BinaryConv2d", 2)


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


@settings(max_examples=30)
@given(
    channels=st.integers(1, 19),
    outputs=st.integers(1, 5),
    size=st.tuples(*[st.integers(3, 7)] * 2),
    kernel=st.tuples(*[st.integers(1, 3)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    slope=st.sampled_from([0.5, -1.3]),
    single=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_convolution_of_one_group_gives_the_same(
    channels: int,
    outputs: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    slope: float,
    single: bool,
    seed: int,
) -> None:
    x = (1, channels, *size)
    model = layer(
        "Conv",
        x,
        weights_of(seed, outputs, channels, *kernel),
        bias=floats(seed + 1, outputs),
        theta=floats(seed + 2, channels, 1, 1),
        theta2=floats(seed + 3, channels, 1, 1),
        slope=slope,
        single=single,
        strides=strides,
        pads=pads,
    )
    plain = kernel == (1, 1) and strides == (1, 1) and not any(pads)
    op = "BinaryLinear" if plain else "BinaryConv2d"
    assert_binary(model, op, 1 if single else 2, floats(seed, *x))


@settings(max_examples=30)
@given(
    x=st.sampled_from([(1, 1), (1, 3), (1, 4, 1), (1, 2, 3, 1)]),
    channels=st.integers(1, 70),
    outputs=st.integers(1, 5),
    per_frame=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_matmul_gives_the_same(
    x: tuple[int, ...], channels: int, outputs: int, per_frame: bool, seed: int
) -> None:
    x = (*x[:-1], channels)
    model = layer(
        "MatMul",
        x,
        weights_of(seed, channels, outputs),
        axes=[-1] if per_frame else None,
        theta=floats(seed + 2, channels),
        theta2=floats(seed + 3, channels),
        slope=-0.5,
    )
    assert_binary(model, "BinaryLinear", 2, floats(seed, *x))


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
