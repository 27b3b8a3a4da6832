from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import (
    SIGN,
    applied,
    assert_same,
    decisions,
    dual_scale,
    floats,
    inferred,
    ops_of,
    run,
    shown,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import binarized, model_of, signs
from onnx import helper

from bicompile.check import session
from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

CONV1 = (1, 5, 7)
CONV2 = (1, 5, 6, 7)


def weights_of(seed: int, *shape: int) -> np.ndarray:
    return signs(np.random.default_rng(seed), *shape)


def shape_after(nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], x: Any) -> Any:
    """What the nodes make of x; model_of wants it said."""
    probe = model_of(nodes, constants, x=x, y=())
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(probe, strict_mode=True, data_prop=True)
    return [dim.dim_value for dim in found.graph.output[0].type.tensor_type.shape.dim]


def layer(
    op: str,
    x: tuple[int, ...],
    weights: np.ndarray,
    *,
    axes: Sequence[int] | None = None,
    bias: np.ndarray | None = None,
    slope: float = 1.0,
    theta: Any = 0.1,
    theta2: Any = 0.3,
    single: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A sign or a dual-scale sum of `x`, and one layer named `layer`."""
    constants = {**SIGN, "theta": theta, "theta1": 0.2, "theta2": theta2, "alpha": slope}
    constants = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    constants["weights"] = weights
    constants["axes"] = np.array(range(1, len(x)) if axes is None else axes)
    inputs = ["a", "weights"]
    if bias is not None:
        constants["bias"] = bias
        inputs.append("bias")
    nodes = binarized("x", "theta", "a") if single else dual_scale("x", "a", "axes")
    nodes = [*nodes, helper.make_node(op, inputs, ["y"], "layer", **attributes)]
    return model_of(nodes, constants, x=x, y=shape_after(nodes, constants, x))


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused, binary_layers, remove_unused)


def binary_ops(model: onnx.ModelProto) -> list[str]:
    return [op for op in ops_of(model) if op.startswith("Binary")]


def assert_binary(model: onnx.ModelProto, op: str, planes: int, *inputs: np.ndarray) -> None:
    """The layer becomes `planes` binary ops, and gives the same."""
    after = rewritten(model)
    assert binary_ops(after) == [op] * planes, decisions(after)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert_same(model, after, *(inputs or [floats(seed, *shape) for seed in range(3)]))


def assert_float(model: onnx.ModelProto, *reasons: str) -> None:
    """No layer becomes binary; the graph is as it was, and says why."""
    before = applied(model, normalise_sign, remove_unused)
    after = applied(before, binary_layers)
    assert decisions(after) == list(reasons)
    assert [node.output for node in after.graph.node] == [node.output for node in before.graph.node]
    assert [t.name for t in after.graph.initializer] == [t.name for t in before.graph.initializer]


LOOKS = "float with ±1 weights: "


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
