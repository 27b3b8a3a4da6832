"""The family itself: every member exports to a valid static model that computes what torch does."""

import functools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from . import (
    BINARY,
    DYNAMO,
    FAMILY,
    HAND,
    SCRIPT_17,
    Exporter,
    Member,
    cases,
    export,
    fragments_of,
    inputs_like,
    layers,
    runnable,
)
from .member import WEIGHT_IS_ZERO, WEIGHT_SCALE_VARIES, WEIGHTS_ARE_REAL

torch.set_num_threads(1)

# The newer exporter takes about a second a network: most of that runs in the slow suite.
QUICK_BY_DYNAMO = ("sign_custom_sign", "bnn_norm_before_sign")


def _quick(member: Member, exporter: Exporter) -> bool:
    return exporter in (HAND, SCRIPT_17) or (exporter is DYNAMO and member.name in QUICK_BY_DYNAMO)


OF_THE_WEIGHTS = (WEIGHTS_ARE_REAL, WEIGHT_SCALE_VARIES, WEIGHT_IS_ZERO)

every_case = pytest.mark.parametrize(
    ("member", "exporter"),
    [
        pytest.param(
            member,
            exporter,
            id=f"{member.name}-{exporter.name}",
            marks=() if _quick(member, exporter) else pytest.mark.slow,
        )
        for member, exporter in cases()
    ],
)


@functools.cache
def _exported(member_name: str, exporter: Exporter) -> onnx.ModelProto:
    member = next(member for member in FAMILY if member.name == member_name)
    model = export(member, exporter)
    return runnable(model) if exporter is HAND else model


def test_every_name_is_used_once_and_is_an_identifier() -> None:
    names = [member.name for member in FAMILY]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_every_expectation_is_binary_or_float_with_a_condition() -> None:
    for member in FAMILY:
        for expected in member.expected.values():
            assert expected == BINARY or expected.startswith("float: ")


def test_making_a_member_twice_gives_the_same_network() -> None:
    for member in FAMILY:
        (first, x), (second, y) = member.make(), member.make()
        assert torch.equal(x, y)
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@every_case
def test_an_exported_model_is_valid_and_has_the_opset_asked_for(
    member: Member, exporter: Exporter
) -> None:
    model = _exported(member.name, exporter)
    onnx.checker.check_model(model, full_check=True)
    assert next(o.version for o in model.opset_import if o.domain == "") == exporter.opset


@every_case
def test_every_shape_is_static_once_constants_are_folded(
    member: Member, exporter: Exporter, tmp_path: Path
) -> None:
    # The older exporter computes the amounts of a padding in the graph, and the sizes of halves.
    model = onnx.shape_inference.infer_shapes(
        _folded(_exported(member.name, exporter), tmp_path / "folded.onnx"), data_prop=True
    )
    known = {
        value.name: value.type.tensor_type
        for value in (*model.graph.value_info, *model.graph.input)
    }
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in set(node.output) - outputs - {""}:
            assert known[name].HasField("shape"), name
            assert all(dim.HasField("dim_value") for dim in known[name].shape.dim), name


def _session(
    model: onnx.ModelProto, *, write_to: Path | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if write_to is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(write_to)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _folded(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """What onnxruntime makes of a model that only has its constants folded."""
    _session(model, write_to=path)
    folded = onnx.load(path)
    del folded.graph.value_info[:]
    return folded


@every_case
def test_every_layer_of_a_model_is_expected_once_and_every_expectation_is_met(
    member: Member, exporter: Exporter
) -> None:
    names = [node.name for node in layers(_exported(member.name, exporter))]
    found = [fragments_of(name, member.expected) for name in names]
    assert all(len(fragments) == 1 for fragments in found), names
    assert {fragment for (fragment,) in found} == set(member.expected)


@every_case
def test_onnxruntime_computes_what_torch_does(member: Member, exporter: Exporter) -> None:
    network, example = member.make()
    session = _session(_exported(member.name, exporter))
    for x in inputs_like(example):
        expected = network(torch.from_numpy(x)).numpy()
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
        assert found.shape == expected.shape
        assert np.isfinite(expected).all()
        assert np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1e-3)


@every_case
def test_weights_have_one_magnitude_per_output_unless_they_are_what_is_in_the_way(
    member: Member, exporter: Exporter
) -> None:
    model = _exported(member.name, exporter)
    nodes = layers(model)
    weights = _values(model, [node.input[1] for node in nodes], inputs_like(member.make()[1])[0])
    for node, weight in zip(nodes, weights, strict=True):
        (fragment,) = fragments_of(node.name, member.expected)
        rows = np.abs(weight.T if node.op_type == "MatMul" else weight)
        rows = rows.reshape(len(rows), -1)
        varies = bool((np.ptp(rows, axis=1) > 1e-5 * rows.max(axis=1)).any())
        assert varies == (member.expected[fragment] in OF_THE_WEIGHTS), node.name


@every_case
def test_exact_zeros_meet_a_sign_only_where_the_member_says_so(
    member: Member, exporter: Exporter
) -> None:
    model = _exported(member.name, exporter)
    names = [node.input[0] for node in model.graph.node if node.op_type == "Sign"]
    values = _values(model, names, inputs_like(member.make()[1])[0])
    assert any(bool((value == 0).any()) for value in values) == (member.zeros == "certain")


def _values(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    """What some tensors inside a model are when it runs on `x`."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    for index, name in enumerate(names):
        extended.graph.node.append(onnx.helper.make_node("Identity", [name], [f"copy_{index}"]))
        extended.graph.output.append(onnx.ValueInfoProto(name=f"copy_{index}"))
    if not names:
        return []
    return list(_session(extended).run(None, {extended.graph.input[0].name: x}))
