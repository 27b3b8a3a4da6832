from pathlib import Path

import onnx
import pytest

from bicompile.errors import UserError
from bicompile.trace import trace
from bicompile.zoo import checkpoint, clip_paths, onnx_file

MODEL = "zoo:bifsmnv2-kws12"


@pytest.mark.parametrize(
    "width",
    [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 2, 3],
)
def test_the_shipped_onnx_is_what_the_checkpoint_traces_to(width: int, tmp_path: Path) -> None:
    trace(checkpoint(MODEL), tmp_path / "traced.onnx", width=width)
    with onnx_file(MODEL, width) as (shipped, _):
        assert onnx.load(shipped) == onnx.load(tmp_path / "traced.onnx")


def test_a_zoo_model_has_width_0_by_default() -> None:
    with onnx_file(MODEL, None) as (path, name):
        assert path.name == "bifsmnv2-kws12-width0.onnx"
        assert name == "zoo:bifsmnv2-kws12 width 0"


def test_an_unknown_zoo_model_is_refused_with_the_known_ones() -> None:
    with (
        pytest.raises(UserError, match=r"no 'resnet'; it has bifsmnv2-kws12"),
        onnx_file("zoo:resnet", 0),
    ):
        pass


def test_an_unknown_width_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="it has 0, 1, 2, 3"), onnx_file(MODEL, 4):
        pass


def test_a_width_of_an_onnx_file_is_refused() -> None:
    with pytest.raises(UserError, match="has one width"), onnx_file("model.onnx", 0):
        pass


def test_zoo_clips_is_a_folder_of_labels() -> None:
    (folder,) = clip_paths(["zoo:clips"])
    assert len(list(folder.glob("*/*.wav"))) == 24
