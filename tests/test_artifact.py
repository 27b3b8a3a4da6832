import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bicompile import toolchain
from bicompile.artifact import FILES, Artifact, TensorSpec, read_artifact, write_artifact
from bicompile.devices import open_device
from bicompile.errors import UserError
from bicompile.targets import find_target

TARGET = find_target("cortex-a53")
SOURCE = """
void model_run(const float *input, float *output, void *workspace) {
  output[0] = input[0] + input[1];
}
"""


def make(folder: Path) -> Artifact:
    folder.mkdir()
    (folder.parent / "model.c").write_text(SOURCE)
    toolchain.compile_c(folder.parent / "model.c", folder / "model.o", TARGET)
    toolchain.archive(folder / "model.o", folder / "libmodel.a")
    (folder / "model.h").write_text("void model_run(const float *, float *, void *);\n")
    (folder / "lowered.onnx").write_bytes(b"\x08\x0a")
    (folder / "report.json").write_text("{}\n")
    return write_artifact(
        folder,
        target=TARGET,
        entry="model_run",
        input=TensorSpec("x", (1, 2)),
        output=TensorSpec("y", (1,)),
        workspace_bytes=64,
        labels=["sum"],
        source="adder",
        versions={"bicompile": "0.1.0"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "kws")
    return tmp_path / "kws"


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    assert make(tmp_path / "kws") == read_artifact(tmp_path / "kws")


def test_an_artifact_that_was_moved_still_reads_and_runs(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder, tmp_path / "moved")
    executable = read_artifact(tmp_path / "moved").executable
    with open_device("emulator").load(executable) as loaded:
        outputs = loaded.run(np.array([[[1, 2]], [[3, 4]]], np.float32)).outputs
    assert outputs.tolist() == [[3], [7]]


def test_two_compiles_of_one_model_write_the_same_manifest(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(tmp_path / name / name)
        made.append((tmp_path / name / name / "manifest.json").read_bytes())
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0]


def test_the_host_target_survives_the_manifest(tmp_path: Path) -> None:
    artifact = make(tmp_path / "kws")
    fields = {
        field.name: getattr(artifact, field.name)
        for field in dataclasses.fields(artifact)
        if field.name not in ("folder", "sha256", "width")
    }
    write_artifact(tmp_path / "kws", **{**fields, "target": find_target("host")})
    assert read_artifact(tmp_path / "kws").target == find_target("host")


def test_every_other_file_in_the_folder_is_guarded_too(tmp_path: Path) -> None:
    folder = tmp_path / "kws"
    artifact = make(folder)
    (folder / "report.html").write_text("<html>")
    fields = {
        field.name: getattr(artifact, field.name)
        for field in dataclasses.fields(artifact)
        if field.name not in ("folder", "sha256", "width")
    }
    write_artifact(folder, **fields)
    (folder / "report.html").write_text("<html> ")
    with pytest.raises(UserError, match=r"report\.html was changed"):
        read_artifact(folder)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_artifact(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path}/none does not exist: give the folder that `bicompile compile` wrote with -o"
    )


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not an artifact \(no manifest\.json in it\): give"):
        read_artifact(tmp_path)


def test_a_file_is_no_artifact(folder: Path) -> None:
    with pytest.raises(UserError, match=r"model\.o is not an artifact"):
        read_artifact(folder / "model.o")


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_told_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_artifact(folder)
    assert str(caught.value) == (
        f"{folder / name} was changed after it was built; compile it again"
    )


def test_a_cut_file_is_told_by_name(folder: Path) -> None:
    (folder / "model.o").write_bytes((folder / "model.o").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.o was changed after it was built"):
        read_artifact(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file_is_told_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing from the artifact: compile"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[: len(text) // 2], "it is not valid JSON"),
        (lambda text: "", "it is not valid JSON"),
        (lambda text: "[1]", "it names no format"),
        (lambda text: "{}", "it names no format"),
    ],
)
def test_a_damaged_manifest_is_told(folder: Path, damage: object, told: str) -> None:
    path = folder / "manifest.json"
    assert callable(damage)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError) as caught:
        read_artifact(folder)
    assert str(caught.value) == f"{path} is damaged ({told}): compile the model again"


def test_a_manifest_that_is_not_text_is_told(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is damaged"):
        read_artifact(folder)


def test_another_format_version_is_told(folder: Path) -> None:
    change(folder, format="bicompile-artifact/1")
    with pytest.raises(
        UserError,
        match="has the format 'bicompile-artifact/1', this version reads 'bicompile-artifact/2'",
    ):
        read_artifact(folder)


def change(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "cortex-a53"},
        {"target": {"name": "x", "features": []}},
        {"input": {"name": "x", "shape": ["a"], "dtype": "float32"}},
        {"input": {"name": "x", "shape": [1], "dtype": "float64"}},
        {"output": None},
        {"workspace_bytes": "many"},
        {"sha256": ["model.o"]},
        {"versions": 3},
        {"labels": 3},
    ],
)
def test_a_value_of_the_wrong_type_is_told(folder: Path, fields: dict[str, object]) -> None:
    change(folder, **fields)
    with pytest.raises(UserError, match=r"is damaged \(a value in it has the wrong type\)"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["target", "entry", "input", "workspace_bytes", "sha256"])
def test_a_missing_value_is_told_by_name(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    del fields[name]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=rf"is damaged \(it lacks '{name}'\)"):
        read_artifact(folder)


def test_a_manifest_that_guards_no_object_is_refused(folder: Path) -> None:
    change(folder, sha256={})
    with pytest.raises(UserError, match=r"is damaged \(it lacks 'model.o'\)"):
        read_artifact(folder)


def test_a_manifest_cannot_point_out_of_its_folder(folder: Path) -> None:
    digests = json.loads((folder / "manifest.json").read_text())["sha256"]
    change(folder, sha256={**digests, "../model.c": "0"})
    with pytest.raises(UserError, match="is damaged"):
        read_artifact(folder)


def test_a_folder_that_lacks_a_file_is_not_completed(tmp_path: Path) -> None:
    folder = tmp_path / "kws"
    artifact = make(folder)
    (folder / "model.h").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.h"):
        write_artifact(
            folder,
            target=TARGET,
            entry="model_run",
            input=artifact.input,
            output=artifact.output,
            workspace_bytes=0,
            labels=(),
            source="adder",
            versions={},
        )


def test_the_entry_takes_float32_only() -> None:
    with pytest.raises(ValueError, match="x is float64; the C entry takes float32 only"):
        TensorSpec("x", (1,), "float64")
