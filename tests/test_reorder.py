"""Graphs before and after channels are reordered, both in onnxruntime."""

import numpy as np
import onnx
import pytest
from graphs import floats, run
from onnx import TensorProto, helper, numpy_helper

from bicompile.ops import DOMAIN, function_protos, pack_bits
from bicompile.reorder import reorder

OUTPUTS = 12


def model_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    x: tuple[int, ...],
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(
        graph, opset_imports=opsets, functions=function_protos(), ir_version=10
    )
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def binary_rows(
    image: tuple[int, int, int, int], *, axis: int = 2, outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    """A map whose columns become rows, binarized for a linear layer."""
    batch, height, width, depth = image
    channels = depth * height
    weights = np.where(floats(1, OUTPUTS, channels) > 0, 1, -1)
    constants = {
        "rows": np.array([batch, channels, width], np.int64),
        "theta": floats(2, channels),
        "shift": floats(3, channels),
        "weights": pack_bits(weights),
    }
    directions = {"greater": 1, "greater2": 0, "group": 1, "axes": [axis]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", ["first", "rows"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["frames"], perm=[0, 2, 1]),
        helper.make_node(
            "DualScale",
            ["frames", "theta", "shift", "shift"],
            ["bits", "scale"],
            domain=DOMAIN,
            **directions,
        ),
        helper.make_node(
            "BinaryLinear", ["bits", "weights"], ["dots"], domain=DOMAIN, channels=channels
        ),
        helper.make_node("Cast", ["dots"], ["y"], to=TensorProto.FLOAT),
    ]
    return model_of(nodes, constants, image, outputs)


def float_behind(perm: list[int], *, transposed: int, batch: int = 1) -> onnx.ModelProto:
    """A float layer behind a flattened transpose."""
    x = (batch, 3, 5)
    weights = floats(4, *((OUTPUTS, 15) if transposed else (15, OUTPUTS)))
    constants = {"shape": np.array([batch, 15], np.int64), "weights": weights}
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=perm),
        helper.make_node("Reshape", ["first", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["y"], transB=transposed),
    ]
    return model_of(nodes, constants, x)


def transposes(model: onnx.ModelProto) -> list[list[int]]:
    return [
        list(node.attribute[0].ints) for node in model.graph.node if node.op_type == "Transpose"
    ]


@pytest.mark.parametrize(
    "image", [(1, 8, 8, 32), (1, 3, 5, 7), (2, 4, 3, 2), (1, 1, 4, 9)], ids=str
)
def test_a_map_becomes_rows_by_runs_of_channels(image: tuple[int, int, int, int]) -> None:
    before = binary_rows(image)
    after = reorder(before)
    assert transposes(after) == [[0, 2, 1, 3]]
    for seed in range(4):
        x = 2 * floats(seed, *image)
        np.testing.assert_array_equal(run(after, x), run(before, x))


def test_a_map_becomes_rows_by_runs_of_channels_for_a_float_layer_too() -> None:
    constants = {"rows": np.array([1, 32, 3], np.int64), "weights": floats(1, 32, OUTPUTS)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", ["first", "rows"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "weights"], ["y"], "layer"),
    ]
    before = model_of(nodes, constants, (1, 4, 3, 8))
    after = reorder(before)
    assert transposes(after) == [[0, 2, 1, 3]]
    onnx.checker.check_model(after, full_check=True)  # with the shapes that are noted
    x = floats(0, 1, 4, 3, 8)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-5)


def test_a_scale_of_every_channel_keeps_their_order() -> None:
    before = binary_rows((1, 4, 3, 8), axis=1)
    assert reorder(before) == before


def test_rows_that_another_reads_keep_their_order() -> None:
    before = binary_rows((1, 4, 3, 8), outputs=("y", "frames"))
    assert reorder(before) == before


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_float_layer_reads_what_was_transposed(transposed: int) -> None:
    before = float_behind([0, 2, 1], transposed=transposed)
    after = reorder(before)
    assert transposes(after) == []
    x = floats(5, 1, 3, 5)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-5)


def test_a_transpose_of_a_batch_stays() -> None:
    before = float_behind([0, 2, 1], transposed=1, batch=2)
    assert reorder(before) == before


@pytest.mark.parametrize("flat", ["Flatten", "Reshape"])
def test_a_first_axis_that_a_transpose_moves_is_not_taken_for_the_batch(flat: str) -> None:
    constants = {"weights": floats(1, 24, OUTPUTS), "shape": np.array([0, -1])}
    inputs = ["moved", "shape"] if flat == "Reshape" else ["moved"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["moved"], perm=[1, 0, 2]),
        helper.make_node(flat, inputs, ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["y"], "head"),
    ]
    before = model_of(nodes, constants, (4, 1, 6))
    after = reorder(before)
    assert "Transpose" not in [node.op_type for node in after.graph.node]
    x = floats(0, 4, 1, 6)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-5)
