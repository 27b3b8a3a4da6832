from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from graphs import SIGN, dual_scale, floats
from networks import binarized, keyword_network, model_of, signs
from onnx import TensorProto, helper

from bicompile.explain import Explained, Explanation, explain, explain_model
from bicompile.load import load_model
from bicompile.rewriting import run_passes


def explained(model: onnx.ModelProto, tmp_path: Path) -> Explanation:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return explain_model(str(path))


def only_layer(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    tmp_path: Path,
    *,
    y: tuple[int, ...],
) -> Explained:
    (layer,) = explained(model_of(nodes, constants, x=(1, 5), y=y), tmp_path).layers
    return layer


def test_a_binary_layer_tells_its_kernel_and_size(tmp_path: Path) -> None:
    front, point, head = explained(keyword_network(), tmp_path).layers
    assert (front.name, front.op, front.kernel) == ("front", "Conv", "BinaryConv2d")
    assert (front.products, front.multiply_accumulates) == (25, 25 * 20 * 64)
    assert (point.name, point.kernel, point.planes) == ("point", "BinaryLinear", 1)
    assert (head.op, head.products, head.multiply_accumulates) == ("MatMul", 18, 18 * 12)


def test_a_sum_of_two_signs_makes_two_planes_and_counts_once(tmp_path: Path) -> None:
    constants = {**SIGN, "alpha": np.float32(1), "axes": np.array([1])}
    constants |= {name: np.float32(0.1) for name in ("theta", "theta1", "theta2")}
    constants["w"] = signs(np.random.default_rng(0), 5, 4)
    nodes = [*dual_scale("x", "a", "axes"), helper.make_node("MatMul", ["a", "w"], ["y"], "layer")]
    layer = only_layer(nodes, constants, tmp_path, y=(1, 4))
    assert (layer.binary, layer.planes, layer.multiply_accumulates) == (True, 2, 20)


def test_a_float_layer_tells_the_condition_that_failed(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "layer")
    layer = only_layer([node], {"w": floats(0, 5, 4)}, tmp_path, y=(1, 4))
    assert (layer.binary, layer.looks_binary, layer.kernel, layer.planes) == (False, False, None, 0)
    assert layer.reason.startswith("its weights are real")
    assert layer.products == 5


def test_binary_weights_behind_a_float_input_look_binary(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "layer")
    layer = only_layer([node], {"w": np.ones((5, 4), np.float32)}, tmp_path, y=(1, 4))
    assert (layer.binary, layer.looks_binary) == (False, True)


def of_a_sign(tmp_path: Path) -> str:
    nodes = [
        helper.make_node("Sign", ["x"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["y"], "layer"),
    ]
    model = model_of(nodes, {"w": np.ones((5, 4), np.float32)}, x=(1, 5), y=(1, 4))
    onnx.save(model, tmp_path / "sign.onnx")
    return str(tmp_path / "sign.onnx")


def test_a_sign_of_zero_that_has_no_bit_names_the_option(tmp_path: Path) -> None:
    (layer,) = explain_model(of_a_sign(tmp_path)).layers
    assert (layer.binary, layer.looks_binary) == (False, True)
    assert "--sign-of-zero" in layer.reason


@pytest.mark.parametrize(("choice", "said"), [("plus", "+1"), ("minus", "−1")])
def test_a_choice_for_the_sign_of_zero_is_told_with_the_layer(
    choice: Literal["plus", "minus"], said: str, tmp_path: Path
) -> None:
    (layer,) = explain_model(of_a_sign(tmp_path), sign_of_zero=choice).layers
    assert layer.binary
    assert layer.reason == f"BinaryLinear, 5 products a sum, sign(0) taken as {said}"


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "output"),
    [
        ("Einsum", {"equation": "bk,kj->bj"}, {"w": np.ones((5, 4), np.float32)}, (1, 4)),
        ("ConvTranspose", {}, {"w": np.ones((1, 2, 3), np.float32)}, (1, 2, 7)),
    ],
)
def test_every_kind_of_layer_is_listed(
    op: str,
    attributes: dict[str, str],
    constants: dict[str, np.ndarray],
    output: tuple[int, ...],
    tmp_path: Path,
) -> None:
    nodes = [helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)]
    if op == "ConvTranspose":
        nodes[0].input[0] = "long"
        nodes.insert(0, helper.make_node("Unsqueeze", ["x", "axis"], ["long"]))
        constants = {**constants, "axis": np.array([1])}
    layer = only_layer(nodes, constants, tmp_path, y=output)
    assert (layer.name, layer.op, layer.binary) == ("layer", op, False)
    assert layer.multiply_accumulates > 0


def test_an_einsum_tells_what_is_read_instead(tmp_path: Path) -> None:
    node = helper.make_node("Einsum", ["x", "w"], ["y"], "layer", equation="bk,kj->bj")
    layer = only_layer([node], {"w": np.ones((5, 4), np.float32)}, tmp_path, y=(1, 4))
    assert layer.reason == "Einsum is not read: write it as Conv, MatMul or Gemm"


def test_integer_products_are_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", ["bytes", "w"], ["sums"], "layer"),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    layer = only_layer(nodes, {"w": np.ones((5, 4), np.uint8)}, tmp_path, y=(1, 4))
    assert (layer.op, layer.binary, layer.products) == ("MatMulInteger", False, 5)


def test_a_layer_that_no_output_needs_is_listed_and_costs_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["unused"], "layer"),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    layer = only_layer(nodes, {"w": np.ones((5, 4), np.float32)}, tmp_path, y=(1, 5))
    assert layer.reason == "no output depends on it: nothing is left of it"
    assert layer.multiply_accumulates == 0


def test_a_layer_of_constants_is_listed_and_costs_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["c", "w"], ["shift"], "layer"),
        helper.make_node("Add", ["x", "shift"], ["y"]),
    ]
    constants = {"c": floats(0, 1, 4), "w": floats(1, 4, 5)}
    layer = only_layer(nodes, constants, tmp_path, y=(1, 5))
    assert layer.reason == "it is constant: nothing is left of it"
    assert layer.multiply_accumulates == 0


def test_a_layer_in_a_subgraph_is_listed_under_the_node_it_is_in(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["product"], "layer")],
        "branch",
        [],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [1, 5])],
    )
    node = helper.make_node("If", ["yes"], ["y"], "choice", then_branch=branch, else_branch=branch)
    constants = {"yes": np.array(True), "w": np.ones((5, 5), np.float32)}
    model = model_of([node], constants, x=(1, 5), y=(1, 5))
    (layer,) = explain("m", model, model).layers
    assert (layer.name, layer.binary) == ("choice/layer", False)
    assert layer.reason == "it is inside choice (If), which no pass enters"


def test_a_lowered_graph_has_the_layers_that_it_was_made_from(tmp_path: Path) -> None:
    onnx.save(keyword_network(), tmp_path / "model.onnx")
    traced = load_model(tmp_path / "model.onnx")
    lowered = run_passes(traced, check=False)
    onnx.save(lowered, tmp_path / "lowered.onnx")
    first = explain("m", traced, lowered).layers
    again = explain_model(str(tmp_path / "lowered.onnx")).layers
    assert [(a.name, a.products, a.kernel, a.planes) for a in again] == [
        (a.name, a.products, a.kernel, a.planes) for a in first
    ]


def test_the_share_of_binary_arithmetic_counts_binary_layers_only(tmp_path: Path) -> None:
    constants = {**SIGN, "first": floats(0, 5, 4), "second": signs(np.random.default_rng(0), 4, 3)}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["v"]),
        *binarized("v", "zero", "a"),
        helper.make_node("MatMul", ["a", "second"], ["y"]),
    ]
    found = explained(model_of(nodes, constants, x=(1, 5), y=(1, 3)), tmp_path)
    assert (found.binary_layers, len(found.layers)) == (1, 2)
    assert found.multiply_accumulates == 5 * 4 + 4 * 3
    assert found.binary_multiply_accumulates == 4 * 3
