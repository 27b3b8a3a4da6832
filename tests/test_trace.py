import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import LABELS
from onnx import numpy_helper

torch = pytest.importorskip("torch")

from bicompile.check import session  # noqa: E402
from bicompile.errors import UserError  # noqa: E402
from bicompile.load import load_model  # noqa: E402
from bicompile.model.checkpoint import load_checkpoint  # noqa: E402
from bicompile.model.config import LABELS_12  # noqa: E402
from bicompile.trace import trace  # noqa: E402


def property_of(model: onnx.ModelProto, key: str) -> str:
    (value,) = [entry.value for entry in model.metadata_props if entry.key == key]
    return value


def test_the_traced_graph_computes_what_torch_does(
    small_checkpoint: Path, traced_onnx: Path
) -> None:
    network, _ = load_checkpoint(small_checkpoint)
    frozen = network.freeze().at_width(0)
    loaded = session(onnx.load(traced_onnx))
    generator = np.random.default_rng(1)
    differences = []
    for _ in range(10):
        x = generator.uniform(-100, 30, (1, 1, 32, 32)).astype(np.float32)
        (found,) = loaded.run(None, {"log_mel": x})
        with torch.no_grad():
            differences.append(np.abs(frozen(torch.from_numpy(x)).numpy() - found).max())
    assert np.median(differences) < 1e-4


def test_the_traced_graph_is_accepted_by_the_compiler(traced_onnx: Path) -> None:
    model = load_model(traced_onnx)
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert names == ["log_mel", "logits"]


def test_a_second_trace_is_the_same_byte_for_byte(
    small_checkpoint: Path, traced_onnx: Path, tmp_path: Path
) -> None:
    trace(small_checkpoint, tmp_path / "again.onnx", width=0)
    assert (tmp_path / "again.onnx").read_bytes() == traced_onnx.read_bytes()


def test_nodes_are_named_after_their_modules_and_each_only_once(traced_onnx: Path) -> None:
    names = [node.name for node in onnx.load(traced_onnx).graph.node]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"(/\w+)+", name) for name in names)
    layers = {"/front/conv2/Conv", "/linear/MatMul", "/classifier/Gemm"}
    layers |= {f"/blocks/{i}/{n}/Conv" for i in (0, 1) for n in ("memory", "expand", "project")}
    assert layers <= set(names)


def test_labels_and_origin_stand_in_the_metadata(traced_onnx: Path) -> None:
    model = onnx.load(traced_onnx)
    assert set(json.loads(property_of(model, "bicompile.labels"))) == set(LABELS)
    assert json.loads(property_of(model, "bicompile.labels")) == list(LABELS_12)
    assert property_of(model, "bicompile.network") == "small, width 0"


def test_nothing_of_the_exporter_or_of_its_machine_is_left(traced_onnx: Path) -> None:
    content = traced_onnx.read_bytes()
    assert b".py" not in content
    assert b"/home" not in content
    assert {entry.key for entry in onnx.load(traced_onnx).metadata_props} == {
        "bicompile.labels",
        "bicompile.network",
    }


def test_binary_weights_are_baked_to_one_bit(traced_onnx: Path) -> None:
    model = onnx.load(traced_onnx)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    layers = [n for n in model.graph.node if n.op_type in ("Conv", "MatMul", "Gemm")]
    binary = [n.name for n in layers if (np.abs(constants[n.input[1]]) == 1).all()]
    assert len(layers) - len(binary) == 2  # the first convolution and the classifier


@pytest.mark.parametrize("width", [2, -1, 7])
def test_a_width_that_the_network_does_not_have_is_refused(
    small_checkpoint: Path, tmp_path: Path, width: int
) -> None:
    with pytest.raises(UserError) as caught:
        trace(small_checkpoint, tmp_path / "out.onnx", width=width)
    assert str(caught.value) == f"{small_checkpoint} has no width {width}: its widths are 0, 1"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 5, 300, 0.5, -1])
def test_a_truncated_checkpoint_is_refused(
    small_checkpoint: Path, tmp_path: Path, kept: float
) -> None:
    content = small_checkpoint.read_bytes()
    end = int(kept * len(content)) if isinstance(kept, float) else kept
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content[:end])
    with pytest.raises(UserError, match="is damaged or not a bicompile checkpoint") as caught:
        trace(damaged, tmp_path / "out.onnx", width=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give a checkpoint"):
        trace(tmp_path / "no.safetensors", tmp_path / "out.onnx", width=0)


def test_a_graph_that_disagrees_with_torch_is_not_written(
    small_checkpoint: Path, traced_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = onnx.load(traced_onnx)
    (bias,) = [t for t in wrong.graph.initializer if t.name == "classifier.bias"]
    bias.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name)
    )
    monkeypatch.setattr("bicompile.trace._export", lambda *_: wrong)
    with pytest.raises(UserError, match="disagrees with torch: median logit difference"):
        trace(small_checkpoint, tmp_path / "out.onnx", width=0)
    assert not list(tmp_path.iterdir())
