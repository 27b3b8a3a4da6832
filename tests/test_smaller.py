"""Options that make the object smaller: float16 constants and a classifier of 8 bits."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from checkpoints import untrained
from command_line import Run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_runs import run_kernels
from networks import keyword_network, model_of
from onnx import helper, numpy_helper

import bicompile
from bicompile.artifact import Artifact
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.errors import UserError
from bicompile.ops import function_protos
from bicompile.smaller import in_steps, is_smaller, make_smaller
from bicompile.verify import verify
from bicompile.workloads import quantized_linear

X = np.random.default_rng(2).uniform(-30, 30, (5, 1, 1, 32, 32)).astype(np.float32)


def classifier(weights: np.ndarray, *, transposed: bool = False) -> onnx.ModelProto:
    """relu(x)·weights + bias, as Gemm."""
    terms, outputs = weights.shape
    given = {
        "weights": weights.T.copy() if transposed else weights,
        "bias": np.arange(outputs, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Gemm", ["a", "weights", "bias"], ["y"], "last", transB=transposed),
    ]
    return model_of(nodes, given, x=(1, terms), y=(1, outputs))


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


WEIGHTS = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
WEIGHTS[:, 2] = 0


def test_without_options_the_graph_stays() -> None:
    model = classifier(WEIGHTS)
    same = make_smaller(model, constants="float32", classifier="float32")
    assert same == model
    assert not is_smaller(same)


def test_constants_are_rounded_to_the_nearest_float16_where_that_is_nearer() -> None:
    weights = WEIGHTS.copy()
    weights[0, 0] = 5000  # so that equal steps are wide
    smaller = make_smaller(classifier(weights), constants="float16", classifier="float32")
    found = constants_of(smaller)
    assert found["weights"].dtype == np.float32
    np.testing.assert_array_equal(found["weights"], weights.astype(np.float16))
    np.testing.assert_array_equal(found["bias"], np.arange(6))
    assert is_smaller(smaller)


def test_one_number_many_times_is_not_rounded() -> None:
    weights = np.full((16, 6), 0.1, np.float32)
    smaller = make_smaller(classifier(weights), constants="float16", classifier="float32")
    np.testing.assert_array_equal(constants_of(smaller)["weights"], weights)


def test_constants_are_rounded_to_equal_steps_where_those_are_nearer() -> None:
    smaller = make_smaller(classifier(WEIGHTS), constants="float16", classifier="float32")
    found = constants_of(smaller)["weights"]
    np.testing.assert_array_equal(found, in_steps(WEIGHTS))
    assert np.abs(found - WEIGHTS).max() < np.abs(WEIGHTS.astype(np.float16) - WEIGHTS).max() / 4


@given(
    arrays(
        np.float32,
        st.integers(2, 40),
        elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
    )
)
def test_equal_steps_are_as_near_as_half_a_step(array: np.ndarray) -> None:
    found = in_steps(array)
    if found is None:
        return
    apart = float(array.max()) - float(array.min())
    error = np.abs(found.astype(np.float64) - array).max()
    assert error <= 0.51 * (1 + 2**-6) * apart / (2**16 - 2)
    assert len(np.unique(found)) <= 2**16


def test_what_is_compared_with_is_float16() -> None:
    thresholds = {name: WEIGHTS.ravel() for name in ("theta", "shift")}
    binarize = helper.make_node(
        "DualScale", ["x", "theta", "shift", "shift"], ["bits", "scale"], "binarize",
        domain="bicompile", axes=[1], group=1, greater=1, greater2=1,
    )  # fmt: skip
    move = helper.make_node("Add", ["x", "moved"], ["y"], "move")
    given_constants = {**thresholds, "moved": WEIGHTS.ravel()}
    model = model_of([move], given_constants, x=(1, 96), y=(1, 96))
    model.graph.node.insert(0, helper.make_node("Neg", ["x"], ["negative"], "first"))
    model.graph.node.append(binarize)
    for node in list(model.graph.node)[1:]:
        node.input[0] = "negative"
    found = constants_of(make_smaller(model, constants="float16", classifier="float32"))
    np.testing.assert_array_equal(found["theta"], WEIGHTS.ravel().astype(np.float16))
    np.testing.assert_array_equal(found["moved"], in_steps(WEIGHTS.ravel()))


@pytest.mark.parametrize("value", [65520, -1e9])
def test_a_constant_that_would_overflow_is_named(value: float) -> None:
    weights = WEIGHTS.copy()
    weights[3, 1] = value
    with pytest.raises(UserError) as caught:
        make_smaller(classifier(weights), constants="float16", classifier="float32")
    assert str(caught.value) == (
        f"node last has {value:g} in its constant weights, and float16 ends at 65504; "
        "compile with --constants float32"
    )


def test_the_layer_that_reads_the_input_keeps_its_constants() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"]),
        helper.make_node("Gemm", ["turned", "weights"], ["y"], "only"),
    ]
    model = model_of(nodes, {"weights": WEIGHTS}, x=(16, 1), y=(1, 6))
    smaller = make_smaller(model, constants="float16", classifier="float32")
    np.testing.assert_array_equal(constants_of(smaller)["weights"], WEIGHTS)


def test_infinity_is_no_overflow() -> None:
    weights = WEIGHTS.copy()
    weights[3, 1] = np.inf
    smaller = make_smaller(classifier(weights), constants="float16", classifier="float32")
    assert constants_of(smaller)["weights"][3, 1] == np.inf


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_of_eight_bits_are_near(transposed: bool) -> None:
    model = classifier(WEIGHTS, transposed=transposed)
    smaller = make_smaller(model, constants="float32", classifier="int8")
    node = smaller.graph.node[-1]
    x, levels, scale, bias = node.input
    found = constants_of(smaller)
    assert (x, node.name, len(found)) == ("a", "last", 3)
    assert found[levels].dtype == np.int8
    np.testing.assert_array_equal(found[bias], np.arange(6))
    error = np.abs(found[levels] * found[scale] - WEIGHTS)
    assert (error <= found[scale] / 2 * 1.001).all()
    assert not found[levels][:, 2].any()


def test_a_quantized_layer_computes_what_its_weights_say() -> None:
    smaller = make_smaller(classifier(WEIGHTS), constants="float32", classifier="int8")
    smaller.functions.extend(function_protos())
    smaller.opset_import.append(helper.make_opsetid("bicompile", 1))
    found = constants_of(smaller)
    levels, scale, bias = (found[name] for name in smaller.graph.node[-1].input[1:])
    x = np.random.default_rng(4).uniform(0, 2, (1, 16)).astype(np.float32)
    (y,) = session(smaller).run(None, {"x": x})
    np.testing.assert_allclose(y, (x @ levels) * scale + bias, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_float_classifier_is_refused() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "only")
    model = model_of([node], {"w": np.ones((2, 1, 1), np.float32)}, x=(1, 1, 4), y=(1, 2, 4))
    with pytest.raises(UserError, match="no float classifier to make int8: its last layer only is"):
        make_smaller(model, constants="float32", classifier="int8")


@pytest.mark.parametrize("device", ["emulator", "host"])
def test_the_kernel_of_eight_bits_is_numpys(device: str) -> None:
    random = np.random.default_rng(6)
    x = random.standard_normal((1, 64)).astype(np.float32)
    levels = random.integers(-127, 128, (64, 12), np.int8)
    scale, bias = random.standard_normal((2, 12)).astype(np.float32)
    nest = quantized_linear(1, 64, 12)
    (y,) = run_kernels([(nest, (x, levels, scale, bias))], device)
    np.testing.assert_allclose(y, (x @ levels) * scale + bias, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "network.safetensors"
    return untrained(path, front=8, hidden=32, memory=32)


def compiled(checkpoint: Path, target: str, out: Path) -> Artifact:
    return bicompile.compile(
        checkpoint,
        target=target,
        out=out,
        widths=(0, 1),
        constants="float16",
        classifier="int8",
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("device", "target"), [("emulator", "cortex-a53"), ("host", "host")])
def test_a_smaller_object_computes_its_graph(
    device: str, target: str, checkpoint: Path, tmp_path: Path
) -> None:
    artifact = compiled(checkpoint, target, tmp_path / "small")
    for width in artifact.widths:
        chosen = artifact.at(width)
        graph = onnx.load(chosen.lowered)
        assert is_smaller(graph)
        assert verify(chosen, open_device(device), X, graph).passed
        report = json.loads(chosen.report.read_text())
        assert report["agreement"]["inputs"] == 24
        assert len(report["calls"]) > len(report["layers"])


def test_the_command_tells_flash_and_agreement(
    bicompile: Run, checkpoint: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "set.npy", X)
    small = tmp_path / "small"
    command = (
        "compile",
        checkpoint,
        "--target",
        "cortex-a53",
        "--no-check",
        "-o",
        small,
        "--widths",
        1,
    )
    options = ("--constants", "float16", "--classifier", "int8")
    plain = json.loads(bicompile(*command, "--json").out)
    told = bicompile(*command, *options, "--calibration", tmp_path / "set.npy").out
    flash = int(re.search(r"flash: (\d+) bytes", told).group(1))
    assert flash < 0.8 * plain["flash_bytes"]
    assert plain["agreement"] is None
    assert re.search(r"  [\d.]+ % of 5 answers as without these options", told)
    assert json.loads((small / "report.json").read_text())["agreement"]["inputs"] == 5
    assert bicompile("cost", small).status == 0
    ended = bicompile("verify", small)
    assert (ended.status, "lowered.onnx in onnxruntime" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--constants", "float8"), "float8"),
        (("--classifier", "int8"), "no float classifier"),
        (("--constants", "float16", "--calibration", "set.npy"), "takes (1, 1, 32, 32)"),
        (("--calibration", "set.npy"), "without --constants float16 or --classifier int8"),
    ],
)
def test_what_cannot_be_made_smaller_is_one_sentence(
    bicompile: Run,
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("set.npy", np.zeros((3, 8), np.float32))
    model = keyword_network()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(64, np.float32), "offsets"))
    onnx.save(model, "model.onnx")
    ended = bicompile(
        "compile", "model.onnx", "--target", "cortex-a53", "-o", "out", "--no-check", *options
    )
    assert ended.status == 2
    assert said in ended.err
    assert not Path("out").exists()
