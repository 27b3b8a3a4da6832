from pathlib import Path

import numpy as np
import onnx
from graphs import SIGN, floats
from networks import binarized, keyword_network, model_of, signs
from onnx import helper

from bicompile.load import load_model
from bicompile.pipeline import run_passes
from bicompile.report import Layer, read_layers


def layers_of(model: onnx.ModelProto, tmp_path: Path) -> list[Layer]:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return read_layers(run_passes(load_model(path), check=False))


def test_every_layer_is_listed_once_in_the_order_of_the_model(tmp_path: Path) -> None:
    assert layers_of(keyword_network(), tmp_path) == [
        Layer("front", True, "BinaryConv2d, 25 products a sum", False),
        Layer("point", True, "BinaryLinear, 20 products a sum", False),
        Layer("head", True, "BinaryLinear, 18 products a sum", False),
    ]


def two_layers(first: np.ndarray, *, names: tuple[str, str] = ("", "")) -> onnx.ModelProto:
    """A layer of a float input, then one of a sign."""
    constants = {**SIGN, "first": first, "second": signs(np.random.default_rng(0), 4, 3)}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["v"], names[0]),
        *binarized("v", "zero", "a"),
        helper.make_node("MatMul", ["a", "second"], ["y"], names[1]),
    ]
    return model_of(nodes, constants, x=(1, 5), y=(1, 3))


def test_a_layer_that_stays_float_says_why(tmp_path: Path) -> None:
    first, second = layers_of(two_layers(floats(0, 5, 4)), tmp_path)
    assert (first.binary, first.looks_binary) == (False, False)
    assert first.reason.startswith("its weights are real")
    assert second.binary


def test_binary_weights_that_stay_float_look_binary(tmp_path: Path) -> None:
    first, _ = layers_of(two_layers(np.ones((5, 4), np.float32)), tmp_path)
    assert first.looks_binary
    assert first.reason == "its input x is not a sum of ±1 tensors with scales"


def test_layers_without_a_name_or_with_the_same_one_are_told_apart(tmp_path: Path) -> None:
    for names in (("", ""), ("same", "same")):
        layers = layers_of(two_layers(np.ones((5, 4), np.float32), names=names), tmp_path)
        assert len({layer.name for layer in layers}) == 2


def test_other_nodes_are_not_layers(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    assert layers_of(model_of([node], {}, x=(1, 4), y=(1, 4)), tmp_path) == []
