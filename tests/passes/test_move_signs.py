from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import SIGN, applied, assert_same, floats, inferred, ops_of
from networks import binarized, model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.move_signs import move_signs
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

SHAPE = (1, 4, 2, 2)
THETA = np.array([0.5, -1, 0, 2], np.float32).reshape(1, 4, 1, 1)
CONSTANTS = {
    **SIGN,
    "theta": THETA,
    "flat": np.array([1, -1]),
    "groups": np.array([1, 2, 2, 2, 2]),
    "first": np.array([1]),
    "starts": np.array([3, 0]),
    "ends": np.array([-5, 1]),
    "axes": np.array([1, 3]),
    "steps": np.array([-2, 1]),
    "order": np.array([3, 0, 1]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 0, 1]),
    "sizes": np.array([1, 3]),
    "ends_of": np.array([2]),
}
Op = tuple[str, list[str], dict[str, Any]]


def model(*ops: Op, less: bool = False) -> onnx.ModelProto:
    """A sign `b` of x, then one op after another; `_` is what came before."""
    nodes = binarized("x", "theta", "b")
    if less:
        nodes[0].op_type = "LessOrEqual"
    value = "b"
    for index, (op, inputs, attributes) in enumerate(ops):
        result = "y" if index == len(ops) - 1 else f"v{index}"
        names = [value if name == "_" else name for name in inputs]
        outputs = [result, f"{result}_rest"] if op == "Split" else [result]
        nodes.append(helper.make_node(op, names, outputs, f"{op.lower()}{index}", **attributes))
        value = result
    proto = model_of(nodes, CONSTANTS, x=SHAPE, y=())
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def moved(before: onnx.ModelProto) -> onnx.ModelProto:
    return applied(before, move_signs, remove_unused)


def edges(seed: int) -> np.ndarray:
    """Numbers at, just above and just below the thresholds, and others."""
    generator = np.random.default_rng(seed)
    full = np.broadcast_to(THETA, SHAPE)
    near = [full, np.nextafter(full, 9), np.nextafter(full, -9), floats(seed, *SHAPE)]
    special = np.broadcast_to(np.float32([np.nan, np.inf]), SHAPE)
    return np.choose(generator.integers(0, 5, SHAPE), [*near, special]).astype(np.float32)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = model(("Flatten", ["_"], {}))
    golden("move_signs-before", graph_text(inferred(before)))
    golden("move_signs-after", graph_text(moved(before)))


MOVES: dict[str, list[Op]] = {
    "flatten": [("Flatten", ["_"], {})],
    "reshape": [("Reshape", ["_", "flat"], {})],
    "transpose": [("Transpose", ["_"], {"perm": [0, 3, 1, 2]})],
    "squeeze": [("Squeeze", ["_", "sizes_0"], {})],
    "unsqueeze": [("Unsqueeze", ["_", "first"], {})],
    "slice": [("Slice", ["_", "starts", "ends", "axes", "steps"], {})],
    "gather": [("Gather", ["_", "order"], {"axis": 1})],
    "reflect": [("Pad", ["_", "pads"], {"mode": "reflect"})],
    "edge": [("Pad", ["_", "pads"], {"mode": "edge"})],
    "depth to space": [("DepthToSpace", ["_"], {"blocksize": 2})],
    "space to depth": [("SpaceToDepth", ["_"], {"blocksize": 2})],
    "shuffle": [
        ("Reshape", ["_", "groups"], {}),
        ("Transpose", ["_"], {"perm": [0, 2, 1, 3, 4]}),
        ("Flatten", ["_"], {}),
    ],
    "join with itself": [("Concat", ["_", "_"], {"axis": 2})],
    "several": [
        ("Gather", ["_", "order"], {"axis": 1}),
        ("Concat", ["_", "b"], {"axis": 1}),
        ("Pad", ["_", "pads"], {"mode": "edge"}),
        ("Reshape", ["_", "flat"], {}),
    ],
}
CONSTANTS["sizes_0"] = np.array([0])


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("move", MOVES)
def test_elements_may_move_before_they_are_compared(move: str, less: bool) -> None:
    before = model(*MOVES[move], less=less)
    after = moved(before)
    compare = "LessOrEqual" if less else "GreaterOrEqual"
    assert ops_of(after) == [*(op for op, _, _ in MOVES[move]), compare, "Where"]
    assert_same(before, after, *map(edges, range(4)), tolerance=0)


@pytest.mark.parametrize(
    ("inputs", "attributes"), [(["b", "sizes"], {}), (["b"], {"num_outputs": 2})]
)
def test_the_parts_of_a_split_are_slices(inputs: list[str], attributes: dict[str, int]) -> None:
    nodes = [
        *binarized("x", "theta", "b"),
        helper.make_node("Split", inputs, ["left", "right"], axis=1, **attributes),
        helper.make_node("ReduceSum", ["left", "first"], ["left_sum"]),
        helper.make_node("ReduceProd", ["right", "first"], ["right_product"]),
        helper.make_node("Sub", ["left_sum", "right_product"], ["y"]),
    ]
    before = model_of(nodes, CONSTANTS, x=SHAPE, y=(1, 1, 2, 2))
    after = moved(before)
    assert ops_of(after).count("Slice") == ops_of(after).count("Where") == 2
    assert "Split" not in ops_of(after)
    assert_same(before, after, *map(edges, range(4)), tolerance=0)


def test_a_split_that_ends_the_graph_stays() -> None:
    before = model(("Split", ["_"], {"axis": 1, "num_outputs": 2}))
    assert ops_of(moved(before))[-1] == "Split"


def joined(less: bool, low: str) -> onnx.ModelProto:
    """Two signs of two halves of x, side by side again."""
    nodes = [
        helper.make_node("Slice", ["x", "first_half", "ends_of", "first"], ["v"]),
        *binarized("v", "zero", "b"),
        helper.make_node("LessOrEqual" if less else "GreaterOrEqual", ["x", "theta"], ["bit"]),
        helper.make_node("Where", ["bit", "one", low], ["c"]),
        helper.make_node("Concat", ["b", "c"], ["y"], "join", axis=1),
    ]
    constants = {**CONSTANTS, "first_half": np.array([0]), "low": np.float32(-2)}
    return model_of(nodes, constants, x=SHAPE, y=(1, 6, 2, 2))


def test_signs_of_different_tensors_are_joined_with_their_thresholds() -> None:
    before = joined(False, "minus")
    after = moved(before)
    assert ops_of(after) == ["Slice", "Concat", "GreaterOrEqual", "Where"]
    assert_same(before, after, *map(edges, range(4)), tolerance=0)


@pytest.mark.parametrize(("less", "low"), [(True, "minus"), (False, "low")])
def test_choices_of_another_kind_stay_apart(less: bool, low: str) -> None:
    assert ops_of(moved(joined(less, low)))[-1] == "Concat"


@pytest.mark.parametrize(
    "op",
    [
        ("MaxPool", ["_"], {"kernel_shape": [2, 2]}),
        ("Pad", ["_", "pads"], {}),
        ("ReduceMax", ["_"], {}),
    ],
)
def test_what_makes_other_elements_stays(op: Op) -> None:
    assert ops_of(moved(model(op)))[-1] == op[0]


def test_a_computed_place_stays() -> None:
    nodes = [
        *binarized("x", "theta", "b"),
        helper.make_node("ArgMax", ["x"], ["at"], axis=1, keepdims=0),
        helper.make_node("Gather", ["b", "at"], ["y"], axis=1),
    ]
    before = model_of(nodes, CONSTANTS, x=SHAPE, y=(1, 1, 2, 2, 2, 2))
    assert ops_of(moved(before))[-1] == "Gather"


def test_a_move_that_cannot_be_stays() -> None:
    before = inferred(model(("Reshape", ["_", "groups"], {})))
    (groups,) = [t for t in before.graph.initializer if t.name == "groups"]
    groups.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 3, 2, 2, 2]), "groups"))
    rewritten = ir.from_proto(before)
    move_signs(rewritten)
    assert [node.op_type for node in rewritten.graph][-1] == "Reshape"


def test_a_sign_that_is_used_elsewhere_too_stays_there() -> None:
    nodes = [
        *binarized("x", "theta", "b"),
        helper.make_node("Flatten", ["b"], ["flat_b"]),
        helper.make_node("ReduceSum", ["flat_b", "first"], ["sum"]),
        helper.make_node("Mul", ["b", "sum"], ["y"]),
    ]
    before = model_of(nodes, CONSTANTS, x=SHAPE, y=SHAPE)
    after = moved(before)
    assert ops_of(after).count("Where") == 2
    assert_same(before, after, edges(0), tolerance=0)


def test_a_sign_written_another_way_moves_once_it_is_normalised() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "theta"], ["centred"]),
        helper.make_node("GreaterOrEqual", ["centred", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "one", "minus"], ["b"]),
        helper.make_node("Flatten", ["b"], ["y"]),
    ]
    before = model_of(nodes, CONSTANTS, x=SHAPE, y=(1, 16))
    after = applied(before, normalise_sign, move_signs, remove_unused)
    assert ops_of(after) == ["Flatten", "GreaterOrEqual", "Where"]
