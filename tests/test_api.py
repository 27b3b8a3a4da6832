import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from onnx import helper

import bicompile
from bicompile.check import session
from bicompile.errors import UserError

X = np.random.default_rng(2).uniform(-30, 30, (1, 1, 32, 32)).astype(np.float32)


def expected(model: Path, x: np.ndarray) -> np.ndarray:
    return session(onnx.load(model)).run(None, {"x": x})[0]


def test_what_is_compiled_gives_what_onnxruntime_gives(keyword_onnx: Path, tmp_path: Path) -> None:
    artifact = bicompile.compile(keyword_onnx, target="cortex-a53", out=tmp_path / "out")
    np.testing.assert_array_equal(artifact.run(X), expected(keyword_onnx, X))
    assert artifact.labels == networks.LABELS


@pytest.mark.parametrize(
    ("folder", "device"),
    [("compiled_folder", "emulator"), ("compiled_folder", "qemu"), ("host_folder", "host")],
)
def test_an_artifact_that_was_compiled_before_is_loaded_and_run(
    folder: str, device: str, keyword_onnx: Path, request: pytest.FixtureRequest
) -> None:
    artifact = bicompile.read(request.getfixturevalue(folder))
    np.testing.assert_array_equal(artifact.run(X, device), expected(keyword_onnx, X))


def test_without_a_folder_the_artifact_is_temporary(tmp_path: Path) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    artifact = bicompile.compile(tmp_path / "float.onnx", target="cortex-a53")
    assert (artifact.folder / "model.o").exists()
    assert not artifact.folder.is_relative_to(tmp_path)


@pytest.mark.parametrize("device", ["emulator", "qemu"])
def test_a_model_without_a_binary_layer_is_right(device: str, tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    onnx.save(networks.float_network(), model)
    artifact = bicompile.compile(model, target="cortex-a53")
    x = np.random.default_rng(0).standard_normal((1, 6)).astype(np.float32)
    np.testing.assert_allclose(artifact.run(x, device), expected(model, x), rtol=1e-5)


@pytest.mark.parametrize("device", ["emulator", "qemu"])
def test_a_model_without_any_layer_is_right(device: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    onnx.save(networks.model_of(nodes, {}, x=(1, 5), y=(1, 5)), tmp_path / "relu.onnx")
    artifact = bicompile.compile(tmp_path / "relu.onnx", target="cortex-a53")
    x = np.array([[-1, 0, 1, -0.5, 2]], np.float32)
    np.testing.assert_array_equal(artifact.run(x, device), [[0, 0, 1, 0, 2]])
    assert artifact.workspace_bytes == 0


def test_a_reshape_at_the_end_gives_the_shape_of_the_model(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        helper.make_node("Reshape", ["hidden", "shape"], ["y"]),
    ]
    model = networks.model_of(nodes, {"shape": np.array([1, 6])}, x=(1, 2, 3), y=(1, 6))
    onnx.save(model, tmp_path / "reshape.onnx")
    artifact = bicompile.compile(tmp_path / "reshape.onnx", target="cortex-a53")
    assert artifact.output.shape == (1, 6)


def test_an_input_of_another_shape_is_told(compiled_folder: Path) -> None:
    with pytest.raises(UserError, match="takes a float32 batch of shape"):
        bicompile.read(compiled_folder).run(np.zeros((3, 3), np.float32))


WITHOUT_TORCH = """
import sys
for name in ("torch", "safetensors"):
    sys.modules[name] = None
import numpy as np
import bicompile
artifact = bicompile.compile(sys.argv[1], target="cortex-a53")
np.save(sys.argv[2], artifact.run(np.load(sys.argv[3])))
"""


def test_compiling_and_running_need_no_torch(keyword_onnx: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    files = [keyword_onnx, tmp_path / "y.npy", tmp_path / "x.npy"]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *files], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected(keyword_onnx, X))
