from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import SIGN, applied, assert_same, floats, inferred, ops_of
from networks import binarized, model_of, signs
from onnx import helper

from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.odd_integers import are_odd_integers
from bicompile.passes.remove_unused import remove_unused


def layer(
    op: str, x: tuple[int, ...], weights: np.ndarray, bias: bool = False, **attributes: Any
) -> onnx.ModelProto:
    constants = {**SIGN, "weights": weights, "bias": np.zeros(weights.shape[0], np.float32)}
    inputs = ["b", "weights", *(["bias"] if bias else [])]
    nodes = [*binarized("x", "zero", "b"), helper.make_node(op, inputs, ["y"], **attributes)]
    model = model_of(nodes, constants, x=x, y=())
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


def odd(model: onnx.ModelProto) -> bool:
    return are_odd_integers(ir.from_proto(inferred(model)).graph.outputs[0])


def weights(*shape: int) -> np.ndarray:
    return signs(np.random.default_rng(0), *shape)


@pytest.mark.parametrize(
    ("op", "x", "shape", "attributes", "expected"),
    [
        ("MatMul", (1, 4, 5), (5, 3), {}, True),
        ("MatMul", (1, 4, 6), (6, 3), {}, False),
        ("Gemm", (1, 5), (5, 4), {}, True),
        ("Gemm", (1, 5), (4, 5), {"transB": 1}, True),
        ("Gemm", (1, 5), (5, 4), {"alpha": 0.5}, False),
        ("Conv", (1, 3, 7), (2, 3, 3), {}, True),
        ("Conv", (1, 3, 7), (2, 3, 3), {"pads": [1, 1]}, False),
        ("Conv", (1, 3, 7), (2, 3, 3), {"auto_pad": "SAME_UPPER"}, False),
        ("Conv", (1, 3, 7), (2, 3, 3), {"auto_pad": "VALID"}, False),
        ("Conv", (1, 6, 7), (2, 3, 1), {"group": 2}, True),
    ],
)
def test_which_sums_are_odd(
    op: str, x: tuple[int, ...], shape: tuple[int, ...], attributes: dict[str, Any], expected: bool
) -> None:
    assert odd(layer(op, x, weights(*shape), **attributes)) is expected


def test_a_bias_may_make_a_sum_anything() -> None:
    assert not odd(layer("Gemm", (1, 5), weights(5, 4).T.copy(), bias=True, transB=1))


def test_weights_of_half_make_halves() -> None:
    assert not odd(layer("MatMul", (1, 5), weights(5, 4) / 2))


def test_the_largest_of_odd_integers_is_odd() -> None:
    model = layer("Conv", (1, 3, 8), weights(2, 3, 3))
    model.graph.node[-1].output[0] = "sums"
    model.graph.node.append(helper.make_node("MaxPool", ["sums"], ["y"], kernel_shape=[2]))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert odd(onnx.shape_inference.infer_shapes(model))


@pytest.mark.parametrize(("products", "expected"), [(5, ["Where"]), (6, ["Sign"])])
def test_a_sign_of_an_odd_sum_is_a_choice_and_of_an_even_one_is_not(
    products: int, expected: list[str]
) -> None:
    nodes = [
        *binarized("x", "zero", "b"),
        helper.make_node("MatMul", ["b", "weights"], ["sums"]),
        helper.make_node("Sign", ["sums"], ["y"]),
    ]
    constants = {**SIGN, "weights": weights(products, 3)}
    before = model_of(nodes, constants, x=(1, products), y=(1, 3))
    after = applied(before, normalise_sign, remove_unused)
    assert ops_of(after)[-1:] == expected
    assert_same(before, after, *(floats(seed, 1, products) for seed in range(4)), tolerance=0)


def test_a_norm_may_come_between_an_odd_sum_and_its_sign() -> None:
    nodes = [
        *binarized("x", "zero", "b"),
        helper.make_node("MatMul", ["b", "weights"], ["sums"]),
        helper.make_node("Mul", ["sums", "k"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normed"]),
        helper.make_node("Sign", ["normed"], ["y"]),
    ]
    constants = {
        **SIGN,
        "weights": weights(5, 3),
        "k": np.array([0.5, 0.25, 2], np.float32),
        "shift": np.array([1, 0.5, 0.5], np.float32),  # zero for a sum of −2, never of an odd one
    }
    before = model_of(nodes, constants, x=(1, 5), y=(1, 3))
    after = applied(before, normalise_sign, remove_unused)
    assert ops_of(after)[-3:] == ["MatMul", "GreaterOrEqual", "Where"]
    assert_same(before, after, *(floats(seed, 1, 5) for seed in range(8)), tolerance=0)
