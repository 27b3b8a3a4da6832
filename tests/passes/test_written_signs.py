"""The ways in which people write a sign."""

import numpy as np
import onnx
import pytest
from graphs import SIGN, applied, assert_same, floats, ops_of
from networks import model_of
from onnx import helper

from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

PLAIN = {1: ["GreaterOrEqual", "Where"], -1: ["LessOrEqual", "Where"]}


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused)


def chain(
    *ops: tuple[str, list[str], dict[str, object]], shape: tuple[int, ...]
) -> onnx.ModelProto:
    """x through one op after another; `_` among the inputs is what came before."""
    nodes, value = [], "x"
    for index, (op, inputs, attributes) in enumerate(ops):
        result = "y" if index == len(ops) - 1 else f"v{index}"
        names = [value if name == "_" else name for name in inputs]
        nodes.append(helper.make_node(op, names, [result], **attributes))
        value = result
    constants = {
        "half": np.float32(0.5),
        "one_whole": np.array(1),
        "two_whole": np.array(2),
        "ones": np.ones(shape, np.float32),
        "two": np.float32(2),
        "tenth": np.float32(0.1),
        "t": np.array([[0.3], [-0.7]], np.float32),
        "k": np.array([[3.0], [0.2]], np.float32),
        **SIGN,
    }
    return model_of(nodes, constants, x=shape, y=shape)


FLOAT = {"to": onnx.TensorProto.FLOAT}
WAYS = {
    "strictly above": [("Greater", ["_", "t"], {}), ("Where", ["_", "one", "minus"], {})],
    "below": [("Less", ["_", "t"], {}), ("Where", ["_", "one", "minus"], {})],
    "not below": [
        ("Less", ["_", "t"], {}),
        ("Not", ["_"], {}),
        ("Where", ["_", "one", "minus"], {}),
    ],
    "twice less one": [
        ("GreaterOrEqual", ["_", "t"], {}),
        ("Cast", ["_"], FLOAT),
        ("Mul", ["two", "_"], {}),
        ("Sub", ["_", "one"], {}),
    ],
    "one less twice": [
        ("Greater", ["_", "half"], {}),
        ("Cast", ["_"], FLOAT),
        ("Mul", ["_", "two"], {}),
        ("Sub", ["one", "_"], {}),
    ],
    "sign of sign": [("Sign", ["_"], {}), ("Add", ["_", "tenth"], {}), ("Sign", ["_"], {})],
    "rounded clip": [
        ("Clip", ["_", "zero", "one"], {}),
        ("Round", ["_"], {}),
        ("Mul", ["_", "two"], {}),
        ("Add", ["_", "minus"], {}),
    ],
    "rounded hard tanh": [
        ("Clip", ["_", "minus", "one"], {}),
        ("Add", ["_", "one"], {}),
        ("Mul", ["_", "half"], {}),
        ("Round", ["_"], {}),
        ("Mul", ["_", "two"], {}),
        ("Sub", ["_", "one"], {}),
    ],
    "one comparison less another": [
        ("GreaterOrEqual", ["_", "t"], {}),
        ("Cast", ["_"], FLOAT),
        ("Less", ["x", "t"], {}),
        ("Cast", ["_"], FLOAT),
        ("Sub", ["v1", "_"], {}),
    ],
    "zeros of the sign replaced": [
        ("Sign", ["_"], {}),
        ("Equal", ["_", "zero"], {}),
        ("Where", ["_", "one", "v0"], {}),
    ],
    "zeros of the input replaced": [
        ("Sign", ["_"], {}),
        ("Equal", ["zero", "x"], {}),
        ("Where", ["_", "minus", "v0"], {}),
    ],
    "at least and not at most": [
        ("GreaterOrEqual", ["_", "t"], {}),
        ("LessOrEqual", ["x", "t"], {}),
        ("Not", ["_"], {}),
        ("And", ["v0", "_"], {}),
        ("Where", ["_", "one", "minus"], {}),
    ],
    "of integers": [
        ("Greater", ["_", "t"], {}),
        ("Cast", ["_"], {"to": onnx.TensorProto.INT64}),
        ("Mul", ["_", "two_whole"], {}),
        ("Sub", ["_", "one_whole"], {}),
        ("Cast", ["_"], FLOAT),
    ],
    "chosen from whole tensors": [
        ("Greater", ["_", "half"], {}),
        ("Where", ["_", "ones", "minus"], {}),
    ],
    "steps that are clipped": [
        ("Ceil", ["_"], {}),
        ("Min", ["_", "one"], {}),
        ("Max", ["zero", "_"], {}),
    ],
    "sign of a rectified": [("Relu", ["_"], {}), ("Sign", ["_"], {})],
    "after a norm": [
        ("Mul", ["_", "k"], {}),
        ("Add", ["_", "t"], {}),
        ("GreaterOrEqual", ["_", "zero"], {}),
        ("Where", ["_", "one", "minus"], {}),
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_sign_written_another_way_is_one_comparison(way: str) -> None:
    before = chain(*WAYS[way], shape=(1, 2, 64))
    after = normalised(before)
    assert ops_of(after) in PLAIN.values()
    thresholds = np.array([0.3, -0.7, 0.5, 0, 0.1, 1.5, -0.3 / 3, 3.5, 2**-24, -1], np.float32)
    near = [thresholds, np.nextafter(thresholds, 9), np.nextafter(thresholds, -9), -thresholds]
    special = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, 3e38, -3e38], np.float32)
    x = np.concatenate([*near, special, floats(1, 16)])
    assert x.size == 64
    assert_same(before, after, np.broadcast_to(x, (1, 2, 64)).copy(), tolerance=0)


@pytest.mark.parametrize(
    "ops",
    [
        [("Sign", ["_"], {})],
        [("Round", ["_"], {})],
        [("Clip", ["_", "minus", "one"], {}), ("Round", ["_"], {})],
        [("Sign", ["_"], {}), ("Greater", ["x", "half"], {}), ("Cast", ["_"], FLOAT),
         ("Add", ["v0", "_"], {})],
        [("Sign", ["_"], {}), ("Mul", ["x", "_"], {})],
    ],
)  # fmt: skip
def test_two_values_are_needed_and_no_third(
    ops: list[tuple[str, list[str], dict[str, object]]],
) -> None:
    after = normalised(chain(*ops, shape=(1, 2, 3)))
    assert ops_of(after)[-1] == ops[-1][0]


def test_a_function_that_turns_back_stays() -> None:
    within = [
        ("GreaterOrEqual", ["_", "minus"], {}),
        ("LessOrEqual", ["x", "one"], {}),
        ("And", ["v0", "_"], {}),
        ("Where", ["_", "one", "minus"], {}),
    ]
    before = chain(*within, shape=(1, 2, 3))
    assert ops_of(normalised(before)) == [op for op, _, _ in within]
