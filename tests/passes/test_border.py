"""A Pad that puts ±1 around signs becomes the border of a binary convolution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from binary_layer_graphs import CONV1, CONV2, binary_ops, rewritten, shape_after, weights_of
from graphs import SIGN, applied, assert_same, decisions, dual_scale, floats, inferred, ops_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import binarized, model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.remove_unused import remove_unused


def padded(
    x: tuple[int, ...],
    weights: np.ndarray,
    value: float,
    *,
    factor: float = 1.0,
    amounts: tuple[int, ...] = (1, 1, 1, 1),
    dual: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """factor · sign(x), or a dual-scale sum, with `value` around it, then a convolution."""
    half = len(amounts) // 2
    constants = {**SIGN, "theta": 0.1, "theta1": 0.2, "theta2": 0.3, "alpha": 1.0}
    constants |= {"factor": factor, "value": value}
    arrays = {name: np.asarray(number, np.float32) for name, number in constants.items()}
    arrays["axes"] = np.arange(1, len(x))
    arrays["amounts"] = np.array([0, 0, *amounts[:half], 0, 0, *amounts[half:]])
    arrays["weights"] = weights
    nodes = dual_scale("x", "a", "axes") if dual else binarized("x", "theta", "a")
    if factor != 1:
        nodes.append(helper.make_node("Mul", ["a", "factor"], ["scaled"]))
    nodes += [
        helper.make_node("Pad", [nodes[-1].output[0], "amounts", "value"], ["padded"]),
        helper.make_node("Conv", ["padded", "weights"], ["y"], "layer", **attributes),
    ]
    return model_of(nodes, arrays, x=x, y=shape_after(nodes, arrays, x))


def border_of(model: onnx.ModelProto) -> tuple[int, list[int]]:
    """The border of the only binary layer, and its amounts."""
    (node,) = (node for node in model.graph.node if node.op_type.startswith("BinaryConv"))
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return given["border"], [*given["pads"]]


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    model = padded((1, 1, 2, 3), weights_of(0, 2, 1, 3, 3), -1.0)
    golden("binary_layers-border-before", graph_text(inferred(model)))
    golden("binary_layers-border-after", graph_text(applied(model, binary_layers, remove_unused)))


@pytest.mark.parametrize(
    ("factor", "value", "border"),
    [(1, 1, 1), (1, -1, -1), (0.5, 0.5, 1), (0.5, -0.5, -1), (-2, 2, 1), (-2, -2, -1)],
)
def test_a_border_is_the_bit_that_its_value_stands_for(
    factor: float, value: float, border: int
) -> None:
    model = padded(CONV2, weights_of(0, 4, 5, 3, 3), value, factor=factor)
    after = rewritten(model)
    assert border_of(after) == (border, [1, 1, 1, 1])
    assert "Pad" not in ops_of(after)
    assert_same(model, after, floats(0, *CONV2), floats(1, *CONV2))


@pytest.mark.parametrize("group", [1, 5])
def test_a_convolution_over_one_axis_has_a_border(group: int) -> None:
    weights = weights_of(0, 5, 5 // group, 3)
    model = padded(CONV1, weights, 1.0, amounts=(2, 1), group=group)
    after = rewritten(model)
    assert border_of(after) == (1, [2, 1])
    assert_same(model, after, floats(0, *CONV1))


@settings(max_examples=20)
@given(
    channels=st.integers(1, 19),
    amounts=st.tuples(*[st.integers(0, 3)] * 4),
    strides=st.tuples(*[st.integers(1, 2)] * 2),
    value=st.sampled_from([-1.0, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_any_border_gives_the_same(
    channels: int,
    amounts: tuple[int, int, int, int],
    strides: tuple[int, int],
    value: float,
    seed: int,
) -> None:
    x = (1, channels, 4, 5)
    weights = weights_of(seed, 3, channels, 3, 2)
    model = padded(x, weights, value, amounts=amounts, strides=strides)
    after = rewritten(model)
    assert binary_ops(after) == ["BinaryConv2d"], decisions(after)
    assert_same(model, after, floats(seed, *x))


def test_padding_around_a_border_of_the_convolution_stays_a_pad() -> None:
    model = padded(CONV2, weights_of(0, 4, 5, 3, 3), 1.0, pads=[1, 1, 1, 1])
    after = rewritten(model)
    assert border_of(after) == (0, [1, 1, 1, 1])
    assert "Pad" in ops_of(after)
    assert_same(model, after, floats(0, *CONV2))


def test_a_third_value_around_signs_is_no_border() -> None:
    model = padded(CONV2, weights_of(0, 4, 5, 3, 3), 0.5)
    assert binary_ops(rewritten(model)) == []


def test_ones_around_a_dual_scale_sum_are_no_border() -> None:
    model = padded(CONV2, weights_of(0, 4, 5, 3, 3), 1.0, dual=True)
    assert binary_ops(rewritten(model)) == []
