from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import model_of
from onnx import helper

import bicompile


def float_keywords() -> onnx.ModelProto:
    """Float layers with the names and shapes of those of networks.keyword_network."""
    node, generator = helper.make_node, np.random.default_rng(7)
    shapes = {"front_weights": (20, 1, 5, 5), "point_weights": (18, 20, 1, 1), "head": (18, 12)}
    constants = {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    constants["flat"] = np.array([1, 18])
    window = {"pads": [2, 2, 2, 2], "strides": [4, 4]}
    nodes = [
        node("Conv", ["x", "front_weights"], ["front_output"], "front", **window),
        node("Relu", ["front_output"], ["point_input"]),
        node("Conv", ["point_input", "point_weights"], ["point_output"], "point"),
        node("GlobalAveragePool", ["point_output"], ["pooled"], "pool"),
        node("Reshape", ["pooled", "flat"], ["flattened"], "flatten"),
        node("MatMul", ["flattened", "head"], ["y"], "head"),
    ]
    return model_of(nodes, constants, x=(1, 1, 32, 32), y=(1, 12))


@pytest.fixture(scope="session")
def twin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float twin of the small network compiled for cortex-a53; for reading only."""
    folder = tmp_path_factory.mktemp("twin")
    onnx.save(float_keywords(), folder / "float.onnx")
    return bicompile.compile(folder / "float.onnx", target="cortex-a53", out=folder / "twin").folder
