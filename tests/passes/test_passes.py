"""All passes in their order, on a traced network."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import assert_true_shapes, inferred
from onnx import numpy_helper

from bicompile.check import session
from bicompile.load import load_model
from bicompile.ops import DOMAIN, unpack_bits
from bicompile.passes import PASSES
from bicompile.pipeline import run_passes
from bicompile.report import Layer, read_layers

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def traced(traced_onnx: Path) -> onnx.ModelProto:
    return inferred(load_model(traced_onnx))


@pytest.fixture(scope="module")
def steps(traced: onnx.ModelProto) -> list[onnx.ModelProto]:
    """The graph before the first pass, and after every one."""
    model = ir.from_proto(traced)
    graphs = [traced]
    for each in PASSES:
        each(model)
        graphs.append(ir.to_proto(model))
    return graphs


@pytest.fixture(scope="module")
def layers(steps: list[onnx.ModelProto]) -> dict[str, Layer]:
    return {layer.name: layer for layer in read_layers(steps[-1])}


def features(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-100, 30, (1, 1, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("number", range(1, len(PASSES) + 1))
def test_every_pass_gives_what_the_graph_before_it_gave(
    steps: list[onnx.ModelProto], number: int
) -> None:
    old, new = session(steps[number - 1]), session(steps[number])
    differences = []
    for seed in range(8):
        feed = {"log_mel": features(seed)}
        (expected,), (found,) = old.run(None, feed), new.run(None, feed)
        differences.append(np.abs(found - expected).max() / np.abs(expected).max())
    # A sum at a threshold may take another sign when it is reordered, but not often.
    assert np.median(differences) < 1e-5


def test_the_graph_is_valid_with_the_true_shape_of_every_value_after_every_pass(
    steps: list[onnx.ModelProto],
) -> None:
    for graph in steps:
        onnx.checker.check_model(graph, full_check=True)
        onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True)
        assert_true_shapes(graph)


def test_linear_1x1_and_the_front_convolution_become_binary(layers: dict[str, Layer]) -> None:
    assert {name: layer.reason for name, layer in layers.items() if layer.binary} == {
        "/front/conv2/Conv": "BinaryConv2d, 75 products a sum",
        "/linear/MatMul": "BinaryLinear, 48 products a sum",
        "/blocks/0/memory/Conv": "BinaryConv1d, 5 products a sum",
        "/blocks/1/memory/Conv": "BinaryConv1d, 5 products a sum",
        "/blocks/0/expand/Conv": "BinaryLinear, 9 products a sum",
        "/blocks/0/project/Conv": "BinaryLinear, 20 products a sum",
        "/blocks/1/expand/Conv": "BinaryLinear, 9 products a sum",
        "/blocks/1/project/Conv": "BinaryLinear, 20 products a sum",
    }


def test_the_first_convolution_and_the_classifier_stay_float(layers: dict[str, Layer]) -> None:
    others = [
        layer for name, layer in layers.items() if not layer.binary and "/memory/" not in name
    ]
    assert len(others) == 2
    assert not any(layer.looks_binary for layer in others)
    assert "/classifier/Gemm" in layers


def test_all_planes_of_a_binary_layer_meet_the_same_weights(
    steps: list[onnx.ModelProto],
) -> None:
    planes: dict[str, list[str]] = {}
    for node in steps[-1].graph.node:
        for note in node.metadata_props:
            if note.key == "bicompile.layer" and node.domain == DOMAIN:
                planes.setdefault(note.value, []).append(node.input[1])
    assert len(planes) == 8
    assert all(len(set(names)) == 1 for names in planes.values())


def test_packed_weights_are_those_of_the_traced_graph(steps: list[onnx.ModelProto]) -> None:
    before = {t.name: numpy_helper.to_array(t) for t in steps[0].graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in steps[-1].graph.initializer}
    layers = {node.name: node for node in steps[0].graph.node}
    for layer in ("/front/conv2/Conv", "/blocks/1/expand/Conv"):
        weights = before[layers[layer].input[1]]
        unpacked = unpack_bits(after[f"{layer}/weights"], weights.shape[1])
        expected = np.moveaxis(weights, 1, -1).reshape(unpacked.shape)
        np.testing.assert_array_equal(unpacked, expected)


def test_the_checked_pipeline_gives_the_same_graph(
    traced_onnx: Path, steps: list[onnx.ModelProto]
) -> None:
    lowered = run_passes(load_model(traced_onnx), check=True)
    assert [n.name for n in lowered.graph.node] == [n.name for n in steps[-1].graph.node]
