"""Checkpoints: what is saved is loaded, and what is none is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bicompile.errors import UserError
from bicompile.model.checkpoint import load_checkpoint, save_checkpoint
from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2

SMALL = NetworkConfig(front=4, hidden=24, memory=16, widths=(1, 2), labels=("a", "b", "c"))
RECORD = {"recipe": {"seed": 3}, "history": [{"loss": 0.5}]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, BiFSMNv2(SMALL), RECORD)
    return path


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_saved_is_loaded(tmp_path: Path, binary: bool) -> None:
    network = BiFSMNv2(NetworkConfig(front=4, hidden=24, memory=16, binary=binary))
    save_checkpoint(tmp_path / "net.safetensors", network, RECORD)
    loaded, record = load_checkpoint(tmp_path / "net.safetensors")
    assert record == RECORD
    assert loaded.config == network.config
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_a_frozen_network_loads_as_one_that_is_not(tmp_path: Path) -> None:
    network = BiFSMNv2(SMALL).freeze()
    save_checkpoint(tmp_path / "net.safetensors", network, RECORD)
    loaded, _ = load_checkpoint(tmp_path / "net.safetensors")
    assert not loaded.frozen
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(loaded(x), network(x))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "net.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_file_is_refused(checkpoint: Path, keep: int) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    assert "damaged" in refused(checkpoint)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("not a checkpoint, but a text\n" * 10)
    assert "damaged" in refused(tmp_path / "a.txt")


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    assert "not a bicompile checkpoint" in refused(tmp_path / "x.safetensors")


def rewrite(path: Path, **changes: str) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata={**header, **changes})


def test_another_version_is_refused_with_both_numbers(checkpoint: Path) -> None:
    rewrite(checkpoint, version="99")
    message = refused(checkpoint)
    assert "99" in message
    assert "reads version 2" in message


@pytest.mark.parametrize("config", ["{}", "[]", "nonsense", '{"front": 0}'])
def test_a_header_without_a_usable_configuration_is_refused(checkpoint: Path, config: str) -> None:
    rewrite(checkpoint, config=config)
    assert "damaged" in refused(checkpoint)


def test_tensors_that_do_not_fit_the_configuration_are_refused(
    tmp_path: Path, checkpoint: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, BiFSMNv2(NetworkConfig(front=8, hidden=24, memory=16)), RECORD)
    import json

    rewrite(other, config=json.dumps(SMALL.to_json()))
    assert "damaged" in refused(other)
