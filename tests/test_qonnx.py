from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import model_of
from onnx import helper

from bicompile.check import session
from bicompile.errors import UserError
from bicompile.load import load_model
from bicompile.qonnx import DOMAIN, with_standard_ops
from bicompile.report import read_layers
from bicompile.rewriting import run_passes

SHAPE = (1, 3)
SCALE = np.array([0.5, -2, 1], np.float32)


def quantized(
    inputs: tuple[str, ...] = ("x", "scale"), op: str = "BipolarQuant", opset: int = 20
) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, ["y"], "quantizer", domain=DOMAIN)
    model = model_of([node], {"scale": SCALE}, x=SHAPE, y=SHAPE)
    model.opset_import[0].version = opset
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def loaded(folder: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    onnx.save(model, folder / "model.onnx")
    return load_model(folder / "model.onnx")


STANDARD = session(with_standard_ops(Path("model.onnx"), quantized()))


@settings(max_examples=50)
@given(x=arrays(np.float32, SHAPE, elements=st.floats(width=32, allow_nan=False)))
def test_a_bipolar_quant_is_its_scale_with_the_sign_of_x(x: np.ndarray) -> None:
    (found,) = STANDARD.run(None, {"x": x})
    np.testing.assert_array_equal(found, np.where(x >= 0, SCALE, -SCALE))


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_a_bipolar_quant_is_read_in_any_opset(tmp_path: Path, opset: int) -> None:
    model = loaded(tmp_path, quantized(opset=opset))
    x = np.float32([[0.0, -0.0, -1]])
    np.testing.assert_array_equal(run(model, x), [[0.5, -2, -1]])


def test_a_model_with_a_definition_of_its_own_gets_this_one(tmp_path: Path) -> None:
    model = quantized()
    node = helper.make_node("Neg", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 20)]
    function = helper.make_function(DOMAIN, "BipolarQuant", ["x", "s"], ["y"], [node], opsets)
    model.functions.append(function)
    assert "Where" in [node.op_type for node in loaded(tmp_path, model).graph.node]


def test_a_model_without_it_is_the_same_object() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, x=SHAPE, y=SHAPE)
    assert with_standard_ops(Path("model.onnx"), model) is model


def test_another_op_of_the_domain_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"node quantizer is qonnx\.custom_op\.general\.Quant"):
        loaded(tmp_path, quantized(op="Quant"))


def test_a_bipolar_quant_without_a_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"node quantizer \(BipolarQuant\) has 1 inputs"):
        loaded(tmp_path, quantized(inputs=("x",)))


def test_weights_and_activations_that_are_quantized_make_a_binary_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("BipolarQuant", ["x", "scale"], ["a"], "of_x", domain=DOMAIN),
        helper.make_node("BipolarQuant", ["w", "scales"], ["b"], "of_w", domain=DOMAIN),
        helper.make_node("MatMul", ["a", "b"], ["y"], "layer"),
    ]
    weights = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    constants = {"scale": np.float32(0.25), "scales": SCALE, "w": weights}
    model = model_of(nodes, constants, x=(1, 5), y=(1, 3))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    (layer,) = read_layers(run_passes(loaded(tmp_path, model), check=True))
    assert (layer.name, layer.binary) == ("layer", True)
