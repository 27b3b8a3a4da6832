from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from binary_layer_graphs import weights_of
from graphs import SIGN, applied, floats, ops_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import binarized, model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.integer_threshold import integer_threshold
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

K, N = 9, 4
X = (1, 3, K)


def two_layers(
    steps: Sequence[tuple[str, object]], theta: object, *, outputs: int = N
) -> onnx.ModelProto:
    """A binary layer, elementwise steps with a constant each, and a layer that takes their signs.

    A step of the op `Residual` adds a value that is computed.
    """
    constants = {**SIGN, "theta": np.float32(0.1), "bound": np.asarray(theta, np.float32)}
    constants |= {"w": weights_of(0, K, outputs), "w2": weights_of(1, outputs, 2)}
    nodes = [*binarized("x", "theta", "a"), helper.make_node("MatMul", ["a", "w"], ["s"], "first")]
    value = "s"
    for index, (op, constant) in enumerate(steps):
        operand = f"c{index}"
        if op == "Residual":
            nodes.append(helper.make_node("ReduceMax", ["x"], [operand]))
        else:
            constants[operand] = np.asarray(constant, np.float32)
        op_type = "Add" if op == "Residual" else op
        nodes.append(helper.make_node(op_type, [value, operand], [f"v{index}"]))
        value = f"v{index}"
    nodes += binarized(value, "bound", "b")
    nodes.append(helper.make_node("MatMul", ["b", "w2"], ["y"], "second"))
    return model_of(nodes, constants, x=X, y=(1, 3, 2))


def binary(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused, binary_layers, remove_unused)


def assert_integers_decide(model: onnx.ModelProto) -> None:
    """The second layer's bits come from integers, and every answer is the same to the bit."""
    before = binary(model)
    after = applied(before, integer_threshold, remove_unused)
    assert "IntegerThreshold" in ops_of(after)
    assert ops_of(after).count("Threshold") == 1
    for seed in range(8):
        x = floats(seed, *X)
        np.testing.assert_array_equal(run(after, x), run(before, x))


NORM = [("Mul", floats(2, N)), ("Add", floats(3, N))]


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = binary(two_layers([("Mul", [0.5, 0.5, -2, 0]), ("Add", [0, 9, 3, 1])], 0.25))
    golden("integer_threshold-before", graph_text(before))
    golden("integer_threshold-after", graph_text(applied(before, integer_threshold, remove_unused)))


@pytest.mark.parametrize(
    "steps",
    [
        [],
        NORM,
        [*NORM, ("PRelu", 0.25)],
        [*NORM, ("PRelu", floats(4, N))],
        [("PRelu", 0.0), *NORM],
        [*NORM, *NORM],
    ],
)
def test_a_chain_of_constants_becomes_one_integer_comparison(
    steps: list[tuple[str, object]],
) -> None:
    assert_integers_decide(two_layers(steps, floats(5, N)))


@settings(max_examples=20)
@given(
    scale=st.lists(st.floats(-4, 4, width=32), min_size=N, max_size=N),
    shift=st.lists(st.floats(-40, 40, width=32), min_size=N, max_size=N),
    theta=st.lists(st.sampled_from([-9.0, -1.0, -0.0, 0.0, 1.0, 9.0]), min_size=N, max_size=N),
)
def test_any_batch_norm_and_threshold_gives_the_same_bits(
    scale: list[float], shift: list[float], theta: list[float]
) -> None:
    assert_integers_decide(two_layers([("Mul", scale), ("Add", shift)], theta))


def test_bits_that_appear_and_vanish_again_stay_floats() -> None:
    steps = [("PRelu", -1.0), ("Add", -3.0)]  # |sum| − 3
    after = applied(binary(two_layers(steps, 0.0)), integer_threshold)
    assert "IntegerThreshold" not in ops_of(after)


def test_a_computed_operand_stays_a_float() -> None:
    after = applied(binary(two_layers([("Residual", None)], 0.0)), integer_threshold)
    assert "IntegerThreshold" not in ops_of(after)


def test_an_operand_that_varies_along_another_axis_stays_a_float() -> None:
    model = two_layers([("Mul", floats(0, 3, 1))], 0.0)
    assert "IntegerThreshold" not in ops_of(applied(binary(model), integer_threshold))


@pytest.mark.parametrize("bound", [np.nan, np.inf, -np.inf])
def test_a_bound_that_is_not_finite_gives_the_same_bits(bound: float) -> None:
    before = binary(two_layers(NORM, bound))
    after = applied(before, integer_threshold, remove_unused)
    x = floats(0, *X)
    np.testing.assert_array_equal(run(after, x), run(before, x))
