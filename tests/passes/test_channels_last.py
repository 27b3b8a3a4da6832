from collections.abc import Callable, Sequence

import numpy as np
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import model_of
from onnx import ModelProto, NodeProto, helper

from bicompile.graph_text import graph_text
from bicompile.passes.channels_last import channels_last
from bicompile.passes.remove_unused import remove_unused

node = helper.make_node


def between_transposes(
    nodes: Sequence[NodeProto], constants: dict[str, np.ndarray], y: tuple[int, ...] = (1, 4, 3)
) -> ModelProto:
    """`nodes` compute `out` from `first` of shape (1, 3, 4); both ends are channels-last."""
    ends = [
        node("Transpose", ["x"], ["first"], "in", perm=[0, 2, 1]),
        *nodes,
        node("Transpose", ["out"], ["y"], "last", perm=[0, 2, 1]),
    ]
    return model_of(ends, constants, x=(1, 4, 3), y=y)


def moved(before: ModelProto) -> ModelProto:
    return applied(before, channels_last, remove_unused)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    nodes = [node("Mul", ["first", "k"], ["m"], "scale"), node("PRelu", ["m", "a"], ["out"], "act")]
    before = between_transposes(
        nodes, {"k": floats(0, 3, 1), "a": np.full((1, 1), 0.5, np.float32)}
    )
    golden("channels_last-before", graph_text(inferred(before)))
    golden("channels_last-after", graph_text(moved(before)))


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (1, 4), (4,), (1, 3, 4), (1, 1, 1)])
def test_a_constant_of_any_shape_is_transposed(shape: tuple[int, ...]) -> None:
    before = between_transposes(
        [node("Add", ["k", "first"], ["out"], "add")], {"k": floats(2, *shape)}
    )
    after = moved(before)
    assert "Add" in ops_of(after)
    assert_same(before, after, floats(1, 1, 4, 3))


def test_transposes_around_a_chain_cancel() -> None:
    nodes = [
        node("Sub", ["first", "k"], ["d"], "sub"),
        node("GreaterOrEqual", ["d", "zero"], ["bit"], "compare"),
        node("Where", ["bit", "d", "first"], ["out"], "choose"),
    ]
    before = between_transposes(nodes, {"k": floats(2, 3, 1), "zero": np.float32(0)})
    after = moved(before)
    assert ops_of(after) == ["Sub", "GreaterOrEqual", "Where"]
    assert_same(before, after, floats(1, 1, 4, 3))


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_a_mean_takes_the_axis_below(axis: int) -> None:
    nodes = [
        node("ReduceMean", ["first", "axes"], ["m"], "mean", keepdims=1),
        node("Mul", ["first", "m"], ["out"], "mul"),
    ]
    before = between_transposes(nodes, {"axes": np.array([axis], np.int64)})
    after = moved(before)
    assert ops_of(after)[:2] == ["ReduceMean", "Mul"]
    assert_same(before, after, floats(1, 1, 4, 3))


def test_a_pad_and_a_slice_take_the_axes_below() -> None:
    nodes = [
        node("Pad", ["first", "pads"], ["p"], "pad"),
        node("Slice", ["p", "starts", "ends", "axes"], ["out"], "slice"),
    ]
    constants = {
        "pads": np.array([0, 0, 2, 0, 0, 1], np.int64),
        "starts": np.array([1], np.int64),
        "ends": np.array([5], np.int64),
        "axes": np.array([2], np.int64),
    }
    before = between_transposes(nodes, constants)
    after = moved(before)
    assert ops_of(after)[:2] == ["Pad", "Slice"]
    assert_same(before, after, floats(1, 1, 4, 3))


def test_differently_ordered_inputs_stay() -> None:
    nodes = [node("Transpose", ["x"], ["t"], "in", perm=[0, 2, 1]), node("Add", ["t", "x"], ["y"])]
    before = model_of(nodes, {}, x=(1, 4, 4), y=(1, 4, 4))
    assert ops_of(moved(before)) == ["Transpose", "Add"]


def test_a_value_used_both_ways_is_right_both_ways() -> None:
    nodes = [
        node("Abs", ["first"], ["a"], "abs"),
        node("Reshape", ["a", "flat"], ["f"], "reshape"),
        node("Reshape", ["f", "back"], ["r"], "unreshape"),
        node("Add", ["a", "r"], ["out"], "add"),
    ]
    constants = {"flat": np.array([12], np.int64), "back": np.array([1, 3, 4], np.int64)}
    before = between_transposes(nodes, constants)
    assert_same(before, moved(before), floats(1, 1, 4, 3))


@settings(max_examples=30)
@given(first=st.permutations(range(4)), second=st.permutations(range(4)))
def test_two_transposes_are_one_or_none(first: list[int], second: list[int]) -> None:
    shape = (1, 2, 3, 4)
    middle = [shape[axis] for axis in first]
    nodes = [
        node("Transpose", ["x"], ["t"], "one", perm=first),
        node("Transpose", ["t"], ["u"], "two", perm=second),
        node("Abs", ["u"], ["y"], "abs"),
    ]
    before = model_of(nodes, {}, x=shape, y=[middle[axis] for axis in second])
    after = moved(before)
    assert ops_of(after).count("Transpose") <= 1
    assert_same(before, after, floats(1, *shape))
