"""What load_model says of a model."""

from pathlib import Path

import onnx
import pytest

from bicompile.errors import UserError
from bicompile.load import load_model


def saved(tmp_path: Path, model: onnx.ModelProto | bytes) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    """What load_model says, without the path; it must be one line."""
    with pytest.raises(UserError) as caught:
        load_model(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said.removeprefix(str(path))
