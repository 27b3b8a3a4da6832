from collections.abc import Callable

import numpy as np
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import model_of, signs
from onnx import ModelProto, helper

from bicompile.graph_text import graph_text
from bicompile.passes.depthwise_taps import depthwise_taps


def depthwise(
    channels: int,
    length: int,
    taps: int,
    *,
    pads: tuple[int, int] = (0, 0),
    dilation: int = 1,
    stride: int = 1,
    bias: bool = True,
) -> ModelProto:
    output = (length + sum(pads) - (taps - 1) * dilation - 1) // stride + 1
    constants = {"w": signs(np.random.default_rng(taps), channels, 1, taps)}
    names = ["x", "w"]
    if bias:
        constants["b"] = floats(7, channels)
        names.append("b")
    node = helper.make_node(
        "Conv",
        names,
        ["y"],
        "memory",
        group=channels,
        pads=list(pads),
        dilations=[dilation],
        strides=[stride],
    )
    return model_of([node], constants, x=(1, channels, length), y=(1, channels, output))


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = depthwise(2, 4, 2, pads=(1, 0))
    golden("depthwise_taps-before", graph_text(inferred(before)))
    golden("depthwise_taps-after", graph_text(applied(before, depthwise_taps)))


@settings(max_examples=25)
@given(
    channels=st.integers(2, 9),
    taps=st.integers(1, 5),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.integers(1, 3),
    bias=st.booleans(),
)
def test_any_window_gives_the_same(
    channels: int, taps: int, pads: tuple[int, int], dilation: int, bias: bool
) -> None:
    before = depthwise(channels, 13, taps, pads=pads, dilation=dilation, bias=bias)
    after = applied(before, depthwise_taps)
    assert "Conv" not in ops_of(after)
    assert_same(before, after, floats(1, 1, channels, 13))


def test_a_two_dimensional_kernel_gives_the_same() -> None:
    constants = {"w": signs(np.random.default_rng(0), 3, 1, 3, 2)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "memory", group=3, pads=[1, 0, 1, 1])
    before = model_of([node], constants, x=(1, 3, 5, 6), y=(1, 3, 5, 6))
    after = applied(before, depthwise_taps)
    assert "Conv" not in ops_of(after)
    assert_same(before, after, floats(1, 1, 3, 5, 6))


@pytest.mark.parametrize("taps", [17])
def test_many_taps_stay_a_convolution(taps: int) -> None:
    assert ops_of(applied(depthwise(2, 20, taps), depthwise_taps)) == ["Conv"]


def test_a_stride_stays_a_convolution() -> None:
    assert ops_of(applied(depthwise(2, 9, 3, stride=2), depthwise_taps)) == ["Conv"]


def test_two_inputs_a_group_stay_a_convolution() -> None:
    constants = {"w": floats(0, 4, 2, 1)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "grouped", group=2)
    before = model_of([node], constants, x=(1, 4, 3), y=(1, 4, 3))
    assert ops_of(applied(before, depthwise_taps)) == ["Conv"]
