import numpy as np
import onnx
import onnx_ir as ir
import pytest
from binary_layer_graphs import CONV1, CONV2, LOOKS, assert_float, layer, rewritten, weights_of
from graphs import SIGN, decisions, floats, ops_of
from networks import binarized, model_of
from onnx import helper

from bicompile.check import session
from bicompile.passes.binary_layers import binary_layers


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


def varies(distinct: int) -> str:
    """What is said of a layer whose input is binary and whose weights are not."""
    return (
        "float: the weight scale of layer varies along the reduction: "
        f"{distinct} distinct values per output; a popcount cannot factor it"
    )


def test_a_weight_of_zero_stays_float() -> None:
    weights = weights_of(0, 4, 5, 1) * 0.5
    weights[2, 3] = 0
    model = layer("Conv", CONV1, weights, single=True)
    said = "its weights are ±0.5 and 0 in 1 of its outputs; a zero has no bit"
    assert_float(model, f"float: {said}")


def test_zeros_among_real_weights_stay_float() -> None:
    weights = floats(0, 4, 5, 1)
    weights[:, 3] = 0
    assert_float(layer("Conv", CONV1, weights, single=True), varies(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_stays_float(bad: float) -> None:
    weights = np.ones((4, 5, 1), np.float32)
    weights[2, 3] = bad
    model = layer("Conv", CONV1, weights, single=True)
    assert_float(model, "float: some of its weights are not finite")


def test_a_weight_scale_that_varies_by_more_than_rounding_stays_float() -> None:
    weights = np.ones((4, 5, 1), np.float32)
    weights[2, 3] = 1.000002
    assert_float(layer("Conv", CONV1, weights, single=True), varies(2))


def test_a_weight_scale_for_every_input_stays_float() -> None:
    weights = weights_of(0, 4, 5, 3, 3) * np.array([1, 2, 3, 4, 4], np.float32)[:, None, None]
    assert_float(layer("Conv", CONV2, weights, single=True), varies(4))


def test_real_weights_on_a_binary_input_stay_float() -> None:
    assert_float(layer("Conv", CONV1, floats(0, 4, 5, 1), single=True), varies(5))


def test_real_weights_on_a_real_input_stay_float() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "layer")
    assert_float(
        model_of([node], {"w": floats(0, 4, 5, 1)}, x=CONV1, y=(1, 4, 7)),
        "float: its weights are real: 5 distinct magnitudes per output, one is needed",
    )


def test_weights_that_are_computed_stay_float() -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"], "square")]
    assert_float(
        model_of(nodes, {}, x=(1, 3, 3), y=(1, 3, 3)), "float: its weights are not constant"
    )


def test_a_convolution_over_three_axes_stays_float() -> None:
    model = layer("Conv", (1, 5, 3, 2, 4), weights_of(0, 4, 5, 1, 2, 1), single=True)
    assert_float(
        model,
        f"{LOOKS}its kernel of 1x2x1 spans 3 axes; one or two are known, or a kernel of 1 without "
        "strides, padding and groups",
    )


@pytest.mark.parametrize("pads", [[-1, 0], [2, -1]])
def test_negative_padding_stays_float(pads: list[int]) -> None:
    # onnxruntime does not run it, so only the decision is looked at.
    model = layer("Conv", CONV1, weights_of(0, 4, 5, 2), single=True, pads=[0, 0])
    model.graph.node[-1].attribute[0].CopyFrom(helper.make_attribute("pads", pads))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 6 + sum(pads)
    rewritten = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    binary_layers(rewritten)
    (said,) = decisions(ir.to_proto(rewritten))
    assert said == f"{LOOKS}its padding is negative"


def test_a_transposed_convolution_stays_float() -> None:
    model = layer("ConvTranspose", CONV1, weights_of(0, 5, 4, 1), single=True)
    assert_float(model, f"{LOOKS}a transposed convolution has no binary kernel")


@pytest.mark.parametrize("stack", [(2,), (3, 2)])
def test_a_stack_of_matrices_stays_float(stack: tuple[int, ...]) -> None:
    model = layer("MatMul", (1, 2, 6, 5), weights_of(0, *stack, 5, 4), single=True)
    count = int(np.prod(stack))
    assert_float(model, f"{LOOKS}its weights are a stack of {count} matrices, one is needed")


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


def test_a_sum_that_doubles_forty_times_is_left_in_no_time() -> None:
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, 4, 5, 1)}
    nodes = [*binarized("x", "theta", "b"), *binarized("x", "one", "c")]
    nodes.append(helper.make_node("Add", ["b", "c"], ["a"]))
    value = "a"
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


def test_the_rewritten_graph_has_no_float_product_left() -> None:
    after = rewritten(layer("Conv", CONV2, weights_of(0, 4, 5, 3, 3), pads=[1] * 4))
    del after.functions[:]
    assert not {"Conv", "MatMul", "Gemm"} & set(ops_of(after))
    with pytest.raises(Exception, match="bicompile"):
        session(after)
