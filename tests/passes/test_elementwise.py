import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import inferred, run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import model_of
from onnx import helper

from bicompile.passes.elementwise import function_of, is_monotone

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
SHAPE = (1, 6)
CONSTANTS = {
    "c": np.array([[0.5, -1, 0, 2, -0.5, 3]], np.float32),
    "d": np.array([[1, 1, -2, 0.25, 7, -3]], np.float32),
    "b": np.array([[True, False, True, False, True, False]]),
    "low": np.float32(-1.5),
    "high": np.float32(2.5),
}
# What a node takes; x is the input, xb is x > c.
FORMS = {
    **{op: ["x"] for op in ("Abs", "Ceil", "Floor", "Identity", "Neg", "Relu", "Round", "Sign")},
    **{op: ["x", "d"] for op in ("Add", "Div", "Mul", "Sub")},
    **{op: ["x", "c"] for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: ["xb", "b"] for op in ("And", "Or", "Xor")},
    "Not": ["xb"],
    "Max": ["x", "c", "d"],
    "Min": ["c", "x"],
    "Where": ["xb", "x", "d"],
    "Clip": ["x", "low", "high"],
}
FLOATS = st.floats(-(2**60), 2**60, width=32) | st.sampled_from([0.0, -0.0, 0.5, 1.5, 2.5, -1.0])


def model(op: str, inputs: list[str], **attributes: object) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Greater", ["x", "c"], ["xb"]),
        helper.make_node(op, inputs, ["found"], "node", **attributes),
        helper.make_node("Cast", ["found"], ["y"], to=FLOAT),
    ]
    return model_of(nodes, CONSTANTS, x=SHAPE, y=SHAPE)


def node_of(proto: onnx.ModelProto) -> ir.Node:
    return next(node for node in ir.from_proto(inferred(proto)).graph if node.name == "node")


@pytest.mark.parametrize("op", FORMS)
@settings(max_examples=5)
@given(x=arrays(np.float32, SHAPE, elements=FLOATS))
def test_an_operator_gives_what_onnxruntime_gives(op: str, x: np.ndarray) -> None:
    proto = model(op, FORMS[op])
    given_values = {**CONSTANTS, "x": x, "xb": x > CONSTANTS["c"]}
    function = function_of(node_of(proto))
    assert function is not None
    found = function(*(given_values[name] for name in FORMS[op]))
    np.testing.assert_array_equal(np.asarray(found, np.float32), run(proto, x))


@pytest.mark.parametrize(("source", "to"), [("x", BOOL), ("xb", FLOAT), ("xb", INT64)])
def test_a_cast_gives_what_onnxruntime_gives(source: str, to: int) -> None:
    proto = model("Cast", [source], to=to)
    x = np.array([[0.0, -0.0, 1.75, -2.5, 9, 3]], np.float32)
    function = function_of(node_of(proto))
    assert function is not None
    found = function({"x": x, "xb": x > CONSTANTS["c"]}[source])
    np.testing.assert_array_equal(np.asarray(found, np.float32), run(proto, x))


@pytest.mark.parametrize("op", ["Softmax", "Sin", "Tanh"])
def test_any_other_operator_is_unknown(op: str) -> None:
    assert function_of(node_of(model(op, ["x"]))) is None


def test_a_quotient_of_integers_is_unknown() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=INT64),
        helper.make_node("Div", ["whole", "two"], ["half"], "node"),
        helper.make_node("Cast", ["half"], ["y"], to=FLOAT),
    ]
    assert function_of(node_of(model_of(nodes, {"two": np.array(2)}, x=SHAPE, y=SHAPE))) is None


@pytest.mark.parametrize(
    ("op", "inputs", "expected"),
    [
        ("Add", ["x", "d"], True),
        ("Sub", ["d", "x"], True),
        ("Mul", ["x", "d"], True),
        ("Mul", ["x", "c"], False),  # a factor of zero
        ("Div", ["x", "d"], True),
        ("Div", ["d", "x"], False),
        ("Mul", ["x", "x"], False),
        ("Abs", ["x"], False),
        ("Equal", ["x", "c"], False),
        ("Less", ["c", "x"], True),
        ("Where", ["xb", "c", "d"], True),
        ("Where", ["b", "x", "d"], False),
        ("Clip", ["x", "low", "high"], True),
    ],
)
def test_which_operators_never_turn_back(op: str, inputs: list[str], expected: bool) -> None:
    assert is_monotone(node_of(model(op, inputs))) is expected


@pytest.mark.parametrize(("source", "to", "expected"), [("xb", FLOAT, True), ("x", INT64, False)])
def test_a_cast_to_float_never_turns_back(source: str, to: int, expected: bool) -> None:
    assert is_monotone(node_of(model("Cast", [source], to=to))) is expected
