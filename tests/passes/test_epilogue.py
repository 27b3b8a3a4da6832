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
from bicompile.passes.epilogue import epilogue
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

K, N = 9, 4
X = (1, 3, K)
WHOLE = (1, 3, N)
STEPS = {"Mul": (N,), "Add": (N,), "PRelu": (N,), "Residual": WHOLE}


def chain(ops: Sequence[str], *, read_inside: bool = False) -> onnx.ModelProto:
    """A binary layer and the steps; `Residual` adds what another layer computes."""
    constants = {**SIGN, "theta": np.float32(0.1), "w": weights_of(0, K, N)}
    constants["real"] = floats(1, K, N)
    nodes = [*binarized("x", "theta", "a"), helper.make_node("MatMul", ["a", "w"], ["s"], "layer")]
    nodes.append(helper.make_node("MatMul", ["x", "real"], ["other"], "float"))
    value = "s"
    for index, op in enumerate(ops):
        operand = "other" if op == "Residual" else f"c{index}"
        if op != "Residual":
            constants[operand] = floats(10 + index, *STEPS[op])
        op_type = "Add" if op == "Residual" else op
        nodes.append(helper.make_node(op_type, [value, operand], [f"v{index}"]))
        value = f"v{index}"
    last = [value, "v0"] if read_inside else [value, "other"]
    nodes.append(helper.make_node("Concat", last, ["y"], axis=2))
    return model_of(nodes, constants, x=X, y=(1, 3, 2 * N))


def binary(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused, binary_layers, remove_unused)


def finished(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, epilogue, remove_unused)


def elementwise_left(model: onnx.ModelProto) -> list[str]:
    return [op for op in ops_of(model) if op in ("Cast", "Mul", "Add", "PRelu")]


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = binary(chain(["Mul", "Add", "PRelu", "Residual"]))
    golden("epilogue-before", graph_text(before))
    golden("epilogue-after", graph_text(finished(before)))


@pytest.mark.parametrize(
    "ops",
    [
        [],
        ["Mul"],
        ["Add"],
        ["PRelu"],
        ["Residual"],
        ["Mul", "Add"],
        ["Add", "PRelu"],
        ["Mul", "Residual"],
        ["Mul", "Add", "PRelu", "Residual"],
    ],
)
def test_a_chain_in_the_order_of_the_op_is_one_op(ops: list[str]) -> None:
    before = binary(chain(ops))
    after = finished(before)
    assert ops_of(after).count("Epilogue") == 1
    assert elementwise_left(after) == []
    x = floats(7, *X)
    np.testing.assert_array_equal(run(after, x), run(before, x))


@settings(max_examples=40)
@given(ops=st.lists(st.sampled_from(sorted(STEPS)), max_size=7), seed=st.integers(0, 1000))
def test_any_chain_gives_the_same_bits(ops: list[str], seed: int) -> None:
    before = binary(chain(ops))
    after = finished(before)
    assert ops_of(after).count("Epilogue") == 1
    x = floats(seed, *X)
    np.testing.assert_array_equal(run(after, x), run(before, x))


def test_a_step_that_comes_too_late_stays_behind_the_op() -> None:
    after = finished(binary(chain(["PRelu", "Mul"])))
    assert elementwise_left(after) == ["Mul"]


def test_what_is_read_inside_the_chain_ends_it() -> None:
    after = finished(binary(chain(["Mul", "Add"], read_inside=True)))
    assert elementwise_left(after) == ["Add"]
