"""Checkpoints: safetensors with the network's configuration and training record in the header."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bicompile.errors import UserError
from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2
from bicompile.model.tensor_file import write_tensors

FORMAT = "bicompile-checkpoint"
VERSION = 2


def save_checkpoint(path: Path, network: BiFSMNv2, record: dict[str, Any]) -> None:
    """Write `network` and its training record (JSON values) to `path`, whole or not at all.

    Raises UserError when the place cannot be written or the disk is full.
    """
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(network.config.to_json()),
        "record": json.dumps(record),
    }
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    write_tensors(path, state, header)


def load_checkpoint(path: Path) -> tuple[BiFSMNv2, dict[str, Any]]:
    """Read a network, in eval mode and not frozen, and its training record.

    Raises UserError for a file that is missing, truncated, not a checkpoint of this program, or of
    another format version.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a checkpoint that `bicompile train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_header(path, header)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = BiFSMNv2(NetworkConfig.from_json(json.loads(header["config"])))
        record = json.loads(header["record"])
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged or not a bicompile checkpoint ({_first_line(error)}); "
            "give a checkpoint that `bicompile train` wrote"
        ) from error
    return network.eval(), record


def _check_header(path: Path, header: dict[str, str]) -> None:
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} is a safetensors file, but not a bicompile checkpoint; "
            "give one that `bicompile train` wrote"
        )
    if header.get("version") != str(VERSION):
        raise UserError(
            f"{path} has checkpoint version {header.get('version')}, this program reads version "
            f"{VERSION}; train again, or use the bicompile that wrote it"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
