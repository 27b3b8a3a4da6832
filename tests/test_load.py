import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import floats, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loading import refusal, saved
from networks import float_network, keyword_network, model_of
from onnx import TensorProto, helper

from bicompile.errors import UserError
from bicompile.load import load_model
from bicompile.ops import DOMAIN
from bicompile.pipeline import run_passes

RELU = helper.make_node("Relu", ["x"], ["y"], "relu")
VALID = float_network().SerializeToString()

Edit = Callable[[onnx.ModelProto], None]


def relu(edit: Edit | None = None, *, x: Any = (1, 4), y: Any = (1, 4)) -> onnx.ModelProto:
    model = model_of([RELU], {}, x=x, y=y)
    if edit is not None:
        edit(model)
    return model


def dims_of(model: onnx.ModelProto) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim


def test_a_valid_model_is_shape_inferred(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path, float_network()))
    assert [value.name for value in model.graph.value_info] == ["hidden"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.onnx") == " does not exist; give the path of an ONNX file"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == " is a folder; give the path of an ONNX file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just text\n",
        b"{}",
        b"\x00" * 50,
        bytes(range(256)),
        b"\x89PNG\r\n\x1a\n",
        b"\x08\x0a",
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.textproto"])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path).startswith(" is not an ONNX model, or is truncated")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    refusal(saved(tmp_path, content))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(VALID) - 1))
def test_a_truncated_model_is_refused_wherever_it_is_cut(tmp_path: Path, cut: int) -> None:
    refusal(saved(tmp_path, VALID[:cut]))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_model_is_refused_or_still_a_model(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(keyword_network().SerializeToString())
    # Not in the middle of the weights, where any byte is a valid one.
    places = st.integers(0, 1500) | st.integers(len(content) - 700, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    path = saved(tmp_path, bytes(content))
    try:
        model = load_model(path)
    except UserError:
        refusal(path)
    else:
        run_passes(model, check=False)


@pytest.mark.parametrize(
    ("value", "shown"), [("frames", "frames"), (None, "?"), (0, "?"), (-1, "-1")]
)
def test_a_dynamic_input_is_refused_with_its_shape(
    tmp_path: Path, value: str | int | None, shown: str
) -> None:
    model = relu()
    dim = dims_of(model)[1]
    dim.Clear()
    if isinstance(value, str):
        dim.dim_param = value
    elif value is not None:
        dim.dim_value = value
    assert refusal(saved(tmp_path, model)) == (
        f": input x has the dynamic shape (1, {shown}); export it with static shapes and batch 1"
    )


def test_an_input_without_a_shape_is_refused(tmp_path: Path) -> None:
    model = relu(lambda model: model.graph.input[0].type.tensor_type.ClearField("shape"))
    assert "input x has the dynamic shape ()" in refusal(saved(tmp_path, model))


def test_a_batch_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, relu(x=(8, 4), y=(8, 4)))
    assert refusal(path) == ": input x has batch 8; export it with batch 1"


def test_an_input_of_billions_is_refused(tmp_path: Path) -> None:
    shape = (1, 100_000, 100_000)
    said = refusal(saved(tmp_path, relu(x=shape, y=shape)))
    assert said == ": input x has 10000000000 elements; at most 16777216 are accepted"


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    extra = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    model = relu(lambda model: model.graph.input.append(extra))
    said = refusal(saved(tmp_path, model))
    assert said == " has 2 inputs (x, z); a model with exactly one is accepted"


@pytest.mark.parametrize(("count", "names"), [(0, "none"), (2, "y, y")])
def test_other_than_one_output_is_refused(tmp_path: Path, count: int, names: str) -> None:
    model = relu()
    output = model.graph.output.pop()
    model.graph.output.extend([output] * count)
    said = refusal(saved(tmp_path, model))
    assert said == f" has {count} outputs ({names}); a model with exactly one is accepted"


@pytest.mark.parametrize("what", ["input", "output"])
@pytest.mark.parametrize(
    ("kind", "shown"), [(TensorProto.INT64, "int64"), (99, "of unknown type 99"), (0, "undefined")]
)
def test_other_than_float32_is_refused(tmp_path: Path, what: str, kind: int, shown: str) -> None:
    model = relu()
    value = getattr(model.graph, what)[0]
    value.type.tensor_type.elem_type = kind
    said = refusal(saved(tmp_path, model))
    assert said == f": {what} {value.name} is {shown}; float (float32) is accepted"


@pytest.mark.parametrize("domain", ["com.example", "ai.onnx.ml", DOMAIN])
def test_an_op_of_another_domain_is_refused_with_its_node(tmp_path: Path, domain: str) -> None:
    model = model_of(
        [helper.make_node("Fancy", ["x"], ["y"], "odd", domain=domain)], {}, x=(1,), y=(1,)
    )
    model.opset_import.append(helper.make_opsetid(domain, 1))
    assert refusal(saved(tmp_path, model)) == (
        f": node odd is {domain}.Fancy, an op outside standard ONNX; "
        "export the model with standard ops"
    )


def test_an_op_that_onnx_does_not_have_is_refused_with_its_node(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Frobnicate", ["x"], ["y"], "odd")], {}, x=(1,), y=(1,))
    assert refusal(saved(tmp_path, model)) == (
        ": node odd is Frobnicate, which is not an op of ONNX; export the model with standard ops"
    )


@pytest.mark.parametrize("version", [0, 1, 12, 26, 1000])
def test_an_opset_too_old_or_too_new_is_refused(tmp_path: Path, version: int) -> None:
    model = relu()
    model.opset_import[0].version = version
    said = refusal(saved(tmp_path, model))
    assert said == f" has opset {version}; opsets 13 to 25 are accepted, 20 is best"


@pytest.mark.parametrize("version", range(13, 26))
def test_every_opset_from_13_to_25_is_converted_to_20(tmp_path: Path, version: int) -> None:
    model = keyword_network()
    model.opset_import[0].version = version
    loaded = load_model(saved(tmp_path, model))
    assert [(opset.domain, opset.version) for opset in loaded.opset_import] == [("", 20)]
    x = floats(0, 1, 1, 32, 32) * 10
    np.testing.assert_array_equal(run(loaded, x), run(keyword_network(), x))


def test_one_opset_imported_twice_is_refused(tmp_path: Path) -> None:
    model = relu(lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 21)))
    said = refusal(saved(tmp_path, model))
    assert said == " imports the opset of the domain ai.onnx twice; export it again"


def test_the_standard_domain_may_have_its_long_name(tmp_path: Path) -> None:
    model = keyword_network()
    model.opset_import[0].domain = "ai.onnx"
    run_passes(load_model(saved(tmp_path, model)), check=True)


def test_axes_that_were_an_attribute_in_an_old_opset_become_an_input(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], "mean", axes=[1], keepdims=0)
    model = model_of([node], {}, x=(1, 4, 3), y=(1, 3))
    model.opset_import[0].version = 13
    loaded = load_model(saved(tmp_path, model))
    x = floats(0, 1, 4, 3)
    np.testing.assert_allclose(run(loaded, x), x.mean(axis=1), rtol=1e-6)


def test_a_tensor_of_billions_is_refused_before_it_is_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["x", "sizes"], ["large"], "grow"),
        helper.make_node("ReduceSum", ["large"], ["y"], "shrink", keepdims=0),
    ]
    sizes = {"sizes": np.array([2**15, 2**15, 4])}
    assert refusal(saved(tmp_path, model_of(nodes, sizes, x=(1, 4), y=()))) == (
        ": the tensor large has 4294967296 elements; at most 67108864 are accepted"
    )


def test_a_cycle_is_refused_with_a_node_of_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Relu", ["b"], ["y"], "third"),
    ]
    said = refusal(saved(tmp_path, model_of(nodes, {}, x=(1, 2), y=(1, 2))))
    assert said == (
        " is not a valid ONNX model: Nodes in a graph must be topologically sorted, however input "
        "'b' of node: name: first OpType: Add is not output of any previous nodes"
    )


def test_one_value_computed_twice_is_refused(tmp_path: Path) -> None:
    said = refusal(saved(tmp_path, model_of([RELU, RELU], {}, x=(1, 2), y=(1, 2))))
    assert "is not a valid ONNX model" in said


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    said = refusal(saved(tmp_path, model_of([node], {"w": floats(0, 5, 3)}, x=(1, 4), y=(1, 3))))
    assert "is not a valid ONNX model" in said
    assert "product" in said


def test_an_unknown_attribute_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu", slope=0.5)
    said = refusal(saved(tmp_path, model_of([node], {}, x=(1,), y=(1,))))
    assert said == " is not a valid ONNX model: Unrecognized attribute: slope for operator Relu"


def test_a_shape_that_depends_on_values_is_refused_with_its_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], "find"),
        helper.make_node("ReduceMax", ["places"], ["last"], keepdims=0),
        helper.make_node("Cast", ["last"], ["y"], to=TensorProto.FLOAT),
    ]
    assert refusal(saved(tmp_path, model_of(nodes, {}, x=(1, 4), y=()))) == (
        ": the shape of places, which node find (NonZero) gives, depends on the input's values; "
        "export the model with static shapes"
    )


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    content = relu().SerializeToString().replace(b"Relu", b"Re\xffu")
    said = refusal(saved(tmp_path, content))
    assert said == " is damaged: a name in it is not text; export it again"


@pytest.mark.parametrize(
    "labels", ["not json", "{}", '["one"]', "[1, 2, 3, 4]", "[" * 5000, json.dumps(["a"] * 5)]
)
def test_labels_that_are_not_a_word_for_each_output_are_refused(
    tmp_path: Path, labels: str
) -> None:
    model = relu(lambda model: helper.set_model_props(model, {"bicompile.labels": labels}))
    assert refusal(saved(tmp_path, model)) == (
        ": its metadata bicompile.labels is not a JSON list of 4 words, one for each output; "
        "correct or remove it"
    )


def test_every_node_gets_a_name_of_its_own(tmp_path: Path) -> None:
    names = ["", "same", "", "same", "Neg_1", "once"]
    nodes, value = [], "x"
    for index, name in enumerate(names):
        result = "y" if index == len(names) - 1 else f"v{index}"
        nodes.append(helper.make_node("Neg", [value], [result], name))
        value = result
    loaded = load_model(saved(tmp_path, model_of(nodes, {}, x=(1,), y=(1,))))
    found = [node.name for node in loaded.graph.node]
    assert len(set(found)) == len(names)
    assert found[4:] == ["Neg_1", "once"]


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    function = helper.make_function(
        "com.example",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 20)],
    )
    nodes = [
        helper.make_node("Twice", ["x"], ["v"], "first", domain="com.example"),
        helper.make_node("Twice", ["v"], ["y"], "second", domain="com.example"),
    ]
    model = model_of(nodes, {}, x=(1, 2), y=(1, 2))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    loaded = load_model(saved(tmp_path, model))
    assert [node.op_type for node in loaded.graph.node] == ["Add", "Add"]
    np.testing.assert_array_equal(run(loaded, np.ones((1, 2), np.float32)), [[4, 4]])


def test_a_lowered_model_loads_again_and_passes_leave_it(tmp_path: Path) -> None:
    once = run_passes(load_model(saved(tmp_path, keyword_network())), check=True)
    again = run_passes(load_model(saved(tmp_path, once)), check=True)
    assert [node.op_type for node in again.graph.node] == [node.op_type for node in once.graph.node]
