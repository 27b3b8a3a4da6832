"""Writing safetensors files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bicompile.errors import UserError
from bicompile.model.tensor_file import write_tensors

TENSORS = {"a": torch.arange(20_000, dtype=torch.float32)}


def test_tensors_come_back(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", TENSORS)
    assert torch.equal(load_file(tmp_path / "file")["a"], TENSORS["a"])


@pytest.mark.parametrize("disk", [20], indirect=True)
def test_a_full_disk_is_told_and_nothing_is_left(disk: Path) -> None:
    with pytest.raises(UserError, match="the disk is full"):
        write_tensors(disk / "file", TENSORS)
    assert not list(disk.iterdir())
