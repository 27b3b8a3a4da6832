from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import SIGN, floats, inferred, run
from networks import binarized, model_of
from onnx import helper

from bicompile.passes.two_values import values_of

SHAPE = (1, 2, 4, 4)
FLOAT = {"to": onnx.TensorProto.FLOAT}
CONSTANTS = {
    **SIGN,
    "two": np.float32(2),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "flat": np.array([1, -1]),
    "cut": np.array([2, 2]),
    "channel": np.array([1]),
    "starts": np.array([1]),
    "four_ones": np.ones(4, np.int64),
    "ends": np.array([3]),
    "scale": np.full((1, 2, 1, 1), 0.5, np.float32),
    "scales": floats(0, 1, 2, 1, 1),
}


def model(*ops: tuple[str, list[str], dict[str, Any]]) -> onnx.ModelProto:
    """One op after another; `b` is a sign of x, `c` another, `_` what came before."""
    nodes = [*binarized("x", "zero", "b"), helper.make_node("Less", ["x", "one"], ["bit"])]
    nodes.append(helper.make_node("Where", ["bit", "one", "minus"], ["c"]))
    value = "b"
    for index, (op, inputs, attributes) in enumerate(ops):
        result = "y" if index == len(ops) - 1 else f"v{index}"
        names = [value if name == "_" else name for name in inputs]
        nodes.append(helper.make_node(op, names, [result], **attributes))
        value = result
    proto = model_of(nodes, CONSTANTS, x=SHAPE, y=())
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(proto)


def found(proto: onnx.ModelProto) -> set[float]:
    return set(values_of(ir.from_proto(inferred(proto)).graph.outputs[0]))


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ([("MaxPool", ["_"], {"kernel_shape": [2, 2]})], {-1, 1}),
        ([("MaxPool", ["_"], {"kernel_shape": [3, 3], "pads": [1] * 4})], {-1, 1}),
        ([("Reshape", ["_", "flat"], {})], {-1, 1}),
        ([("Transpose", ["_"], {})], {-1, 1}),
        ([("Tile", ["_", "four_ones"], {})], {-1, 1}),
        ([("GlobalMaxPool", ["_"], {})], {-1, 1}),
        ([("Slice", ["_", "starts", "ends"], {})], {-1, 1}),
        ([("Gather", ["_", "channel"], {"axis": 1})], {-1, 1}),
        ([("Concat", ["b", "c"], {"axis": 1})], {-1, 1}),
        ([("Pad", ["_", "pads", "minus"], {})], {-1, 1}),
        ([("Pad", ["_", "pads"], {"mode": "reflect"})], {-1, 1}),
        ([("Mul", ["b", "c"], {})], {-1, 1}),
        ([("Max", ["b", "c"], {})], {-1, 1}),
        ([("Mul", ["b", "scale"], {})], {-0.5, 0.5}),
        ([("Cast", ["bit"], FLOAT)], {0, 1}),
        ([("Cast", ["bit"], FLOAT), ("Mul", ["_", "two"], {}), ("Sub", ["_", "one"], {})], {-1, 1}),
        ([("Relu", ["_"], {})], {0, 1}),
        ([("Add", ["b", "c"], {})], {-2, 0, 2}),
        ([("Pad", ["_", "pads"], {})], {-1, 0, 1}),
    ],
)
def test_which_values_a_tensor_takes(
    ops: list[tuple[str, list[str], dict[str, Any]]], expected: set[float]
) -> None:
    proto = model(*ops)
    assert found(proto) == expected
    for seed in range(3):
        assert set(np.unique(run(inferred(proto), floats(seed, *SHAPE))).tolist()) <= expected


@pytest.mark.parametrize(
    "ops",
    [
        [("Mul", ["b", "scales"], {}), ("Mul", ["_", "scales"], {})],
        [("Mul", ["b", "x"], {})],
        [("AveragePool", ["_"], {"kernel_shape": [2, 2]})],
        [("MaxPool", ["_"], {"kernel_shape": [3, 3], "ceil_mode": 1})],
        [("Div", ["b", "zero"], {})],
        [("MatMul", ["b", "c"], {})],
        [("Concat", ["b", "x"], {"axis": 1})],
    ],
)
def test_many_values_or_unknown_ones_are_none(
    ops: list[tuple[str, list[str], dict[str, Any]]],
) -> None:
    assert found(model(*ops)) == set()


def test_the_places_of_the_largest_are_not_its_values() -> None:
    nodes = [
        *binarized("x", "zero", "b"),
        helper.make_node("MaxPool", ["b"], ["largest", "places"], kernel_shape=[2, 2]),
        helper.make_node("Cast", ["places"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    assert found(model_of(nodes, CONSTANTS, x=SHAPE, y=(1, 2, 3, 3))) == set()


def test_reading_takes_no_longer_where_a_tensor_is_used_many_times() -> None:
    doubled = [("Mul", ["_", "_"], {})] * 12
    assert found(model(*doubled)) == {-1, 1}


def test_a_very_long_chain_is_not_read_to_its_end() -> None:
    assert found(model(*[("Neg", ["_"], {})] * 40)) == set()
