from collections.abc import Callable

import numpy as np
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from networks import model_of
from onnx import ModelProto, helper

from bicompile.graph_text import graph_text
from bicompile.passes.float_layers import float_layers
from bicompile.passes.remove_unused import remove_unused

node = helper.make_node


def layer(
    weights: tuple[int, ...],
    x: tuple[int, ...],
    y: tuple[int, ...],
    *,
    bias: bool = True,
    **attributes: object,
) -> ModelProto:
    names = ["x", "w", "b"] if bias else ["x", "w"]
    constants = {"w": floats(0, *weights), "b": floats(1, weights[0])}
    constants = {name: constants[name] for name in names[1:]}
    return model_of([node("Conv", names, ["y"], "layer", **attributes)], constants, x=x, y=y)


def moved(before: ModelProto) -> ModelProto:
    return applied(before, float_layers, remove_unused)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = layer((6, 4, 3, 3), (1, 4, 8, 8), (1, 6, 8, 8), pads=[1, 1, 1, 1])
    golden("float_layers-before", graph_text(inferred(before)))
    golden("float_layers-after", graph_text(moved(before)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("weights", "x", "y", "attributes"),
    [
        ((6, 4, 1), (1, 4, 8), (1, 6, 8), {}),
        ((4, 1, 5), (1, 4, 8), (1, 4, 8), {"group": 4, "pads": [2, 2]}),
        ((6, 4, 3), (1, 4, 9), (1, 6, 3), {"dilations": [2], "strides": [2]}),
        ((6, 4, 5, 3), (1, 4, 9, 8), (1, 6, 5, 9), {"strides": [2, 1], "pads": [2, 3, 2, 0]}),
        ((4, 1, 2, 3), (1, 4, 9, 8), (1, 4, 8, 6), {"group": 4}),
    ],
)
def test_a_convolution_computes_the_same(
    weights: tuple[int, ...],
    x: tuple[int, ...],
    y: tuple[int, ...],
    attributes: dict[str, object],
    bias: bool,
) -> None:
    before = layer(weights, x, y, bias=bias, **attributes)
    after = moved(before)
    assert ops_of(after) == ["Transpose", f"FloatConv{len(x) - 2}d", *["Add"] * bias, "Transpose"]
    assert_same(before, after, floats(2, *x))


def test_the_layer_keeps_its_name_and_what_was_noted_of_it() -> None:
    before = layer((6, 4, 1), (1, 4, 8), (1, 6, 8))
    entry = before.graph.node[0].metadata_props.add()
    entry.key, entry.value = "bicompile.decision", "float: its weights are real"
    (found,) = (n for n in moved(before).graph.node if n.op_type == "FloatConv1d")
    assert found.name == "layer"
    assert [(e.key, e.value) for e in found.metadata_props] == [(entry.key, entry.value)]


@pytest.mark.parametrize(
    ("weights", "x", "y", "attributes"),
    [
        ((6, 1, 3, 3), (1, 1, 8, 8), (1, 6, 6, 6), {}),
        ((6, 2, 3), (1, 4, 8), (1, 6, 6), {"group": 2}),
        ((8, 1, 3), (1, 4, 8), (1, 8, 6), {"group": 4}),
        ((6, 4, 3), (2, 4, 8), (2, 6, 6), {}),
        ((6, 4, 3), (1, 4, 8), (1, 6, 8), {"auto_pad": "SAME_UPPER"}),
        ((3, 2, 2, 2, 2), (1, 2, 4, 4, 4), (1, 3, 3, 3, 3), {}),
    ],
)
def test_what_is_not_read_is_left(
    weights: tuple[int, ...], x: tuple[int, ...], y: tuple[int, ...], attributes: dict[str, object]
) -> None:
    assert ops_of(moved(layer(weights, x, y, **attributes))) == ["Conv"]


@pytest.mark.parametrize("computed", ["w", "b"])
def test_computed_weights_or_bias_are_left(computed: str) -> None:
    constants = {"w": floats(0, 4, 4, 1), "b": floats(1, 4)}
    shape = constants.pop(computed).shape
    first = {"w": [0], "b": [0, 2]}[computed]
    nodes = [
        node("ReduceMean", ["x", "axes"], [computed], keepdims=0),
        node("Conv", ["x", "w", "b"], ["y"], "layer"),
    ]
    constants |= {"axes": np.array(first, np.int64)}
    if computed == "w":
        nodes[0] = node("Reshape", ["x", "axes"], ["w"])
        constants["axes"] = np.array(shape, np.int64)
    x = (1, 4, 4)
    assert "Conv" in ops_of(moved(model_of(nodes, constants, x=x, y=(1, 4, 4))))
