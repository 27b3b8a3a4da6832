from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graphs import applied, assert_same, floats, inferred
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.share_constants import share_constants

NODES = [
    helper.make_node("Mul", ["x", "a"], ["first"], "first"),
    helper.make_node("Add", ["first", "b"], ["y"], "second"),
]


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = model_of(NODES, {"a": np.float32([1, 2]), "b": np.float32([1, 2])}, x=(1, 2), y=(1, 2))
    after = applied(before, share_constants)
    golden("share_constants-before", graph_text(inferred(before)))
    golden("share_constants-after", graph_text(after))
    assert_same(before, after, floats(0, 1, 2), tolerance=0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32(0.0), np.float32(-0.0)),
        (np.float32([1, 1]), np.float32(1)),
        (np.float32([[1, 2]]), np.float32([1, 2])),
    ],
)
def test_constants_that_differ_in_bytes_or_shape_stay_two(a: np.ndarray, b: np.ndarray) -> None:
    before = model_of(NODES, {"a": a, "b": b}, x=(1, 2), y=(1, 2))
    assert len(applied(before, share_constants).graph.initializer) == 2


def test_types_that_numpy_does_not_know_are_compared_too() -> None:
    kind = onnx.TensorProto.BFLOAT16
    nodes = [
        helper.make_node("Cast", ["a"], ["one"], to=1),
        helper.make_node("Cast", ["b"], ["other"], to=1),
        helper.make_node("Mul", ["x", "one"], ["first"]),
        helper.make_node("Add", ["first", "other"], ["y"]),
    ]
    before = model_of(nodes, {}, x=(1, 2), y=(1, 2))
    before.graph.initializer.extend(helper.make_tensor(n, kind, [2], [1.0, 2.0]) for n in "ab")
    assert len(applied(before, share_constants).graph.initializer) == 1


def test_the_same_bytes_of_another_type_stay_two() -> None:
    nodes = [
        helper.make_node("Cast", ["i"], ["number"], to=1),
        helper.make_node("Mul", ["x", "f"], ["product"]),
        helper.make_node("Add", ["product", "number"], ["y"]),
    ]
    constants = {"i": np.int32([0]), "f": np.float32([0])}
    before = model_of(nodes, constants, x=(1, 2), y=(1, 2))
    assert len(applied(before, share_constants).graph.initializer) == 2
