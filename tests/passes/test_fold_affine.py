from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from graphs import applied, assert_same, decisions, floats, inferred, ops_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.fold_affine import fold_affine

SHAPE = (1, 3, 2)


def chain(steps: Sequence[tuple[str, object]], shape: tuple[int, ...] = SHAPE) -> onnx.ModelProto:
    """Every step is Mul or Add with a constant; that stands first in every second step."""
    nodes, constants, value = [], {}, "x"
    for index, (op, constant) in enumerate(steps):
        constants[f"c{index}"] = np.asarray(constant, np.float32)
        sides = [value, f"c{index}"] if index % 2 else [f"c{index}", value]
        value = "y" if index == len(steps) - 1 else f"v{index}"
        nodes.append(helper.make_node(op, sides, [value], f"step{index}"))
    output = np.broadcast_shapes(shape, *(array.shape for array in constants.values()))
    return model_of(nodes, constants, x=shape, y=output)


def per_channel(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    bias = ("Add", per_channel(1, 2, 3))
    norm = [("Mul", per_channel(2, 0, -1)), ("Add", per_channel(0.5, 0, 1))]
    before = chain([("Mul", 3), bias, *norm])
    golden("fold_affine-before", graph_text(inferred(before)))
    golden("fold_affine-after", graph_text(applied(before, fold_affine)))


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        (["Mul", "Mul"], ["Mul"]),
        (["Add", "Add"], ["Add"]),
        (["Add", "Mul"], ["Mul", "Add"]),
        (["Mul", "Add"], ["Mul", "Add"]),
        (["Add", "Mul", "Add", "Mul", "Mul", "Add", "Add"], ["Mul", "Add"]),
    ],
)
def test_a_chain_becomes_one_product_and_one_sum(ops: list[str], expected: list[str]) -> None:
    before = chain([(op, floats(index, 3, 1)) for index, op in enumerate(ops)])
    after = applied(before, fold_affine)
    assert ops_of(after) == expected
    assert_same(before, after, floats(9, *SHAPE))


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["Mul", "Add"]),
            st.sampled_from([(), (1,), (3, 1), (2,), (1, 3, 2)]),
            st.integers(0, 1000),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_any_chain_gives_the_same(steps: list[tuple[str, tuple[int, ...], int]]) -> None:
    before = chain([(op, floats(seed, *shape)) for op, shape, seed in steps])
    after = applied(before, fold_affine)
    assert len(ops_of(after)) <= 2
    x = floats(0, *SHAPE)
    sizes = [np.abs(floats(seed, *shape)).max() for _, shape, seed in steps]
    # Sums may cancel, so the error is relative to the largest number on the way.
    largest = float(np.prod([1 + size for size in sizes]) * (1 + np.abs(x).max()))
    np.testing.assert_allclose(run(after, x), run(inferred(before), x), rtol=0, atol=1e-6 * largest)


def test_an_intermediate_that_is_used_elsewhere_stays() -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "c"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shifted"], ["y"]),
    ]
    before = model_of(nodes, {"c": np.float32(2)}, x=SHAPE, y=SHAPE)
    after = applied(before, fold_affine)
    assert ops_of(after) == ["Add", "Mul", "Sub"]


@pytest.mark.parametrize("ops", [("Add", "Add"), ("Add", "Mul")])
def test_what_was_noted_on_a_folded_node_stays_in_the_graph(ops: Sequence[str]) -> None:
    before = chain([(op, 2.0) for op in ops])
    note = before.graph.node[0].metadata_props.add()
    note.key, note.value = "bicompile.decision", "float: for a reason"
    assert decisions(applied(before, fold_affine)) == ["float: for a reason"]


def test_a_constant_that_would_grow_past_its_input_stays() -> None:
    before = chain([("Add", floats(0, 1, 3)), ("Mul", floats(1, 4, 1))], shape=(1, 1, 1))
    assert ops_of(applied(before, fold_affine)) == ["Add", "Mul"]


@pytest.mark.parametrize(
    "steps",
    [
        [("Mul", 1e30), ("Mul", 1e30)],
        [("Mul", 1e-30), ("Mul", 1e-30)],
        [("Add", 1e30), ("Mul", 1e30)],
        [("Add", np.inf), ("Mul", 0.0)],
        [("Add", np.nan), ("Mul", 2.0)],
        [("Add", 3e38), ("Add", 3e38)],
    ],
)
def test_what_float32_does_not_hold_stays(steps: list[tuple[str, float]]) -> None:
    before = chain(steps)
    after = applied(before, fold_affine)
    assert ops_of(after) == [op for op, _ in steps]


def test_integers_stay() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["integer"], to=onnx.TensorProto.INT64),
        helper.make_node("Add", ["integer", "c"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "c"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    before = model_of(nodes, {"c": np.array(3)}, x=SHAPE, y=SHAPE)
    after = applied(before, fold_affine)
    assert ops_of(after) == ["Cast", "Add", "Mul", "Cast"]


def test_a_sum_of_two_computed_values_stays() -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Add", ["twice", "c"], ["y"]),
    ]
    before = model_of(nodes, {"c": np.float32(2)}, x=SHAPE, y=SHAPE)
    assert ops_of(applied(before, fold_affine)) == ["Add", "Add"]
