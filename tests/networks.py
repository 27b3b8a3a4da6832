"""Small models, written by hand: quick to compile, and every kind of binary layer is in one."""

import json
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "unknown")
LABELS = (*WORDS, "silence")


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    x: Sequence[int],
    y: Sequence[int],
    labels: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model from `x` to `y`, both float32."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(y))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if labels:
        helper.set_model_props(model, {"bicompile.labels": json.dumps(list(labels))})
    return model


def signs(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """±1 as float32."""
    return np.where(generator.random(shape) < 0.5, -1, 1).astype(np.float32)


def binarized(x: str, threshold: str, to: str) -> list[onnx.NodeProto]:
    """x ≥ threshold as ±1; needs the constants `one` and `minus`."""
    return [
        helper.make_node("GreaterOrEqual", [x, threshold], [f"{to}_bit"]),
        helper.make_node("Where", [f"{to}_bit", "one", "minus"], [to]),
    ]


def keyword_network() -> onnx.ModelProto:
    """Takes a clip's log-mel, gives 12 scores: a 5x5 and a 1x1 convolution and a linear layer.

    Channels do not fill bytes, the front pads after it binarizes, and all sums are of integers, so
    every way to compute it gives the same bits.
    """
    generator = np.random.default_rng(5)
    constants = {
        "one": np.float32(1),
        "minus": np.float32(-1),
        "front_threshold": np.full((1, 1, 1, 1), -6.5, np.float32),
        "front_weights": signs(generator, 20, 1, 5, 5),
        "point_threshold": generator.integers(-3, 4, (1, 20, 1, 1)).astype(np.float32),
        "point_weights": signs(generator, 18, 20, 1, 1),
        "head_threshold": np.zeros((18,), np.float32),
        "head_weights": signs(generator, 18, 12),
        "flat": np.array([1, 18]),
    }
    nodes = [
        *binarized("x", "front_threshold", "front_input"),
        helper.make_node(
            "Conv",
            ["front_input", "front_weights"],
            ["front_output"],
            "front",
            pads=[2, 2, 2, 2],
            strides=[4, 4],
        ),
        *binarized("front_output", "point_threshold", "point_input"),
        helper.make_node("Conv", ["point_input", "point_weights"], ["point_output"], "point"),
        helper.make_node("GlobalAveragePool", ["point_output"], ["pooled"], "pool"),
        helper.make_node("Reshape", ["pooled", "flat"], ["flattened"], "flatten"),
        *binarized("flattened", "head_threshold", "head_input"),
        helper.make_node("MatMul", ["head_input", "head_weights"], ["y"], "head"),
    ]
    return model_of(nodes, constants, x=(1, 1, 32, 32), y=(1, 12), labels=LABELS)


def float_network(last: str = "Relu") -> onnx.ModelProto:
    """A linear layer with float weights, then the op `last`: nothing is binary."""
    generator = np.random.default_rng(6)
    weights = generator.standard_normal((6, 5)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["hidden"], "dense"),
        helper.make_node(last, ["hidden"], ["y"], "last"),
    ]
    return model_of(nodes, {"weights": weights}, x=(1, 6), y=(1, 5))
