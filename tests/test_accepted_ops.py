"""Ops and functions that no compile can take."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import keyword_network, model_of
from onnx import TensorProto, helper

from bicompile.errors import UserError
from bicompile.load import load_model
from bicompile.ops import DOMAIN
from bicompile.rewriting import run_passes

DOMAINS = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]


def refusal(model: onnx.ModelProto, folder: Path) -> str:
    """What load_model says after the path."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(UserError) as caught:
        load_model(path)
    return str(caught.value).removeprefix(str(path))


def with_functions(functions: dict[str, list[str]]) -> onnx.ModelProto:
    """A model that calls F; each function is a chain of calls, or of Relu."""
    model = model_of(
        [helper.make_node("F", ["x"], ["y"], "call", domain="com.example")], {}, x=(1,), y=(1,)
    )
    model.opset_import.append(DOMAINS[1])
    for name, calls in functions.items():
        values = ["a", *(f"v{index}" for index in range(1, len(calls))), "b"]
        nodes = [
            helper.make_node(op, [value], [result], domain="" if op == "Relu" else "com.example")
            for op, value, result in zip(calls, values, values[1:], strict=False)
        ]
        function = helper.make_function("com.example", name, ["a"], ["b"], nodes, DOMAINS)
        model.functions.append(function)
    return model


@pytest.mark.parametrize("functions", [{"F": ["F"]}, {"F": ["G"], "G": ["Relu", "F"]}])
def test_a_function_that_calls_itself_is_refused(
    functions: dict[str, list[str]], tmp_path: Path
) -> None:
    assert refusal(with_functions(functions), tmp_path) == (
        ": its function com.example.F calls itself; export the model without functions"
    )


def test_functions_that_double_at_every_call_are_refused_before_they_are_inlined(
    tmp_path: Path,
) -> None:
    functions = {"F": ["F1"] * 2, **{f"F{i}": [f"F{i + 1}"] * 2 for i in range(1, 30)}}
    assert refusal(with_functions({**functions, "F30": ["Relu"]}), tmp_path) == (
        " has 1073741824 nodes once its functions are inlined; at most 262144 are accepted, "
        "so export it without functions"
    )


def test_an_op_of_the_domain_with_another_body_is_refused(tmp_path: Path) -> None:
    onnx.save(keyword_network(), tmp_path / "source.onnx")
    lowered = run_passes(load_model(tmp_path / "source.onnx"), check=False)
    function = next(f for f in lowered.functions if f.name == "Threshold")
    comparison = next(node for node in function.node if node.op_type == "GreaterOrEqual")
    comparison.op_type = "Greater"
    assert refusal(lowered, tmp_path) == (
        f": its function {DOMAIN}.Threshold is not the one of version 1; "
        "give the model that it was compiled from"
    )


def test_a_loop_is_refused(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1]),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], "forever", body=body)
    model = model_of([loop], {"yes": np.array(True)}, x=(1,), y=(1,))
    assert refusal(model, tmp_path) == (
        ": node forever is Loop; export the model with its loops unrolled"
    )


@pytest.mark.parametrize(
    ("op", "inputs"), [("RandomNormalLike", ["x"]), ("Dropout", ["x", "half", "yes"])]
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_gives_something_else_at_every_run_is_refused(
    op: str, inputs: list[str], inside: bool, tmp_path: Path
) -> None:
    node = helper.make_node(op, inputs, ["noise" if inside else "y"], "random")
    if inside:
        result = helper.make_tensor_value_info("noise", TensorProto.FLOAT, [1, 4])
        branch = helper.make_graph([node], "branch", [], [result])
        node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    constants = {"half": np.float32(0.5), "yes": np.array(True)}
    assert refusal(model_of([node], constants, x=(1, 4), y=(1, 4)), tmp_path) == (
        f": node random is {op}, which may give something else at every run; "
        "export the model in eval mode"
    )


def test_a_dropout_of_a_trained_model_is_nothing(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Dropout", ["x"], ["y"])], {}, x=(1, 4), y=(1, 4))
    onnx.save(model, tmp_path / "model.onnx")
    run_passes(load_model(tmp_path / "model.onnx"), check=True)
