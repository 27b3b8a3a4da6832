from collections.abc import Callable

import numpy as np
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from networks import model_of
from onnx import ModelProto, NodeProto, helper

from bicompile.graph_text import graph_text
from bicompile.ops import DOMAIN
from bicompile.passes.fold_scale import fold_scale
from bicompile.passes.remove_unused import remove_unused

node = helper.make_node

CONVOLUTION = node(
    "FloatConv1d", ["x", "w"], ["z"], "layer",
    domain=DOMAIN, group=1, strides=[1], pads=[1, 1], dilations=[1],
)  # fmt: skip
MATMUL = node("MatMul", ["x", "w"], ["z"], "layer")


def scaled(
    layer: NodeProto, weights: tuple[int, ...], scale: np.ndarray, *, on_the_left: bool = False
) -> ModelProto:
    factors = ["s", "z"] if on_the_left else ["z", "s"]
    nodes = [layer, node("Mul", factors, ["y"], "scale")]
    constants = {"w": floats(0, *weights), "s": scale}
    return model_of(nodes, constants, x=(1, 8, 4), y=(1, 8, 6))


def folded(before: ModelProto) -> ModelProto:
    return applied(before, fold_scale, remove_unused)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = scaled(MATMUL, (4, 6), floats(1, 6))
    golden("fold_scale-before", graph_text(inferred(before)))
    golden("fold_scale-after", graph_text(folded(before)))


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6), (1, 1, 6), (1, 1, 1)])
@pytest.mark.parametrize("on_the_left", [False, True])
@pytest.mark.parametrize(("layer", "weights"), [(MATMUL, (4, 6)), (CONVOLUTION, (3, 4, 6))])
def test_a_scale_goes_into_the_weights(
    layer: NodeProto, weights: tuple[int, ...], on_the_left: bool, shape: tuple[int, ...]
) -> None:
    before = scaled(layer, weights, floats(1, *shape), on_the_left=on_the_left)
    after = folded(before)
    assert ops_of(after) == [layer.op_type]
    assert_same(inferred(before), after, floats(2, 1, 8, 4))


@pytest.mark.parametrize(
    "scale", [floats(1, 8, 1), floats(1, 8, 6), np.float32(1e38) * floats(1, 6)]
)
def test_a_scale_of_positions_or_one_that_overflows_is_left(scale: np.ndarray) -> None:
    before = scaled(MATMUL, (4, 6), scale)
    before.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", 1, (4, 6), np.full(24, 100, np.float32))
    )
    assert ops_of(folded(before)) == ["MatMul", "Mul"]


def test_a_result_that_something_else_reads_keeps_its_layer() -> None:
    nodes = [
        MATMUL,
        node("Mul", ["z", "s"], ["m"], "scale"),
        node("Add", ["m", "z"], ["y"], "both"),
    ]
    constants = {"w": floats(0, 4, 6), "s": floats(1, 6)}
    before = model_of(nodes, constants, x=(1, 8, 4), y=(1, 8, 6))
    assert ops_of(folded(before)) == ["MatMul", "Mul", "Add"]
