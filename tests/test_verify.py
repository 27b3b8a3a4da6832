import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from elftools.elf.elffile import ELFFile
from onnx import numpy_helper

from bicompile.artifact import Artifact, Executable, read_artifact
from bicompile.devices import Loaded, RunResult, open_device
from bicompile.errors import UserError
from bicompile.verify import verify

CLIPS = np.random.default_rng(3).uniform(-40, 30, (30, 1, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def model(keyword_onnx: Path) -> onnx.ModelProto:
    return onnx.load(keyword_onnx)


@pytest.fixture
def copied(compiled_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled_folder, tmp_path / "copied"))


def with_new_hashes(folder: Path) -> Artifact:
    """What a folder holds now, as if it had been built so."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    fields["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in fields["sha256"]
    }
    path.write_text(json.dumps(fields))
    return read_artifact(folder)


@dataclass
class Tampered:
    """The emulator, but what comes back from a run is changed on the way."""

    change: Any

    def load(self, executable: Executable) -> Loaded:
        loaded, change = open_device("emulator").load(executable), self.change

        class Changed(Loaded):
            def run(self, inputs: np.ndarray, keep_workspace: bool = False) -> RunResult:
                return change(loaded.run(inputs, keep_workspace))

            def close(self) -> None:
                loaded.close()

        return Changed()


@pytest.mark.parametrize(
    ("device", "folder"),
    [("emulator", "compiled_folder"), ("qemu", "compiled_folder"), ("host", "host_folder")],
)
def test_a_good_artifact_passes(
    device: str, folder: str, model: onnx.ModelProto, request: pytest.FixtureRequest
) -> None:
    artifact = read_artifact(request.getfixturevalue(folder))
    result = verify(artifact, open_device(device), CLIPS, model)
    assert result.passed
    assert result.clips == 30
    assert result.accumulators == 30 * (8 * 8 * 18 + 12)  # of the first layer only bits are left
    assert result.bits == 30 * (32 * 32 + 8 * 8 * 3 + 3)
    assert (result.wrong_accumulators, result.wrong_bits, result.disagreements) == (0, 0, ())
    assert result.median_difference == 0
    assert (result.instructions is not None) == (device == "emulator")


def test_wrong_accumulators_and_bits_are_counted(
    compiled_folder: Path, model: onnx.ModelProto
) -> None:
    def flip(result: RunResult) -> RunResult:
        if result.workspaces is None:
            return result
        return replace(result, workspaces=result.workspaces ^ np.uint8(1))

    result = verify(read_artifact(compiled_folder), Tampered(flip), CLIPS[:2], model)
    assert result.wrong_accumulators > 0
    assert result.wrong_bits > 0
    assert not result.passed


def test_other_answers_are_told_with_the_margin_of_the_model(
    compiled_folder: Path, model: onnx.ModelProto
) -> None:
    def turn(result: RunResult) -> RunResult:
        return replace(result, outputs=-result.outputs)

    result = verify(read_artifact(compiled_folder), Tampered(turn), CLIPS, model)
    assert 0 < result.wrong_accumulators <= 30 * 12  # of the last layer
    assert result.same_outputs
    assert not result.passed
    assert len(result.disagreements) / 30 == 1 - result.agreement
    assert {d.clip for d in result.disagreements} <= set(range(30))
    assert all(d.expected != d.found and d.margin >= 0 for d in result.disagreements)
    assert len(result.disagreements) > 20


def test_outputs_that_are_not_numbers_do_not_pass(
    compiled_folder: Path, model: onnx.ModelProto
) -> None:
    def spoil(result: RunResult) -> RunResult:
        return replace(result, outputs=np.full_like(result.outputs, np.nan))

    assert not verify(read_artifact(compiled_folder), Tampered(spoil), CLIPS[:2], model).passed


def test_an_object_with_other_weights_than_its_graph_does_not_pass(
    copied: Path, model: onnx.ModelProto
) -> None:
    lowered = onnx.load(copied / "lowered.onnx")
    weights = next(
        tensor
        for tensor in lowered.graph.initializer
        if tensor.data_type == onnx.TensorProto.UINT8 and tensor.dims[0] == 12
    )
    weights.CopyFrom(numpy_helper.from_array(~numpy_helper.to_array(weights), weights.name))
    onnx.save(lowered, copied / "lowered.onnx")
    result = verify(with_new_hashes(copied), open_device("emulator"), CLIPS[:3], model)
    assert not result.same_outputs
    assert not result.passed


def test_an_object_with_other_kernels_than_its_graph_builds_is_refused(
    copied: Path, model: onnx.ModelProto
) -> None:
    obj = copied / "model.o"
    with obj.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        start = text["sh_offset"]
    content = bytearray(obj.read_bytes())
    content[start : start + 4] = (0xD503201F).to_bytes(4, "little")  # nop
    obj.write_bytes(content)
    with pytest.raises(UserError) as caught:
        verify(with_new_hashes(copied), open_device("emulator"), CLIPS[:1], model)
    assert str(caught.value) == (
        f"{copied} was compiled by another version: its kernels are not those that this bicompile "
        "builds from its lowered.onnx; compile it again, then verify"
    )


def test_a_model_that_takes_something_else_is_refused(compiled_folder: Path) -> None:
    import networks

    with pytest.raises(UserError) as caught:
        verify(
            read_artifact(compiled_folder),
            open_device("emulator"),
            CLIPS[:1],
            networks.float_network(),
        )
    assert str(caught.value) == (
        f"the model takes x of shape (1, 6), {compiled_folder} takes (1, 1, 32, 32); give the "
        "model it was compiled from"
    )
