"""What `bicompile train` says of data that it cannot use."""

from pathlib import Path

import pytest
from archives import TRAIN, write_archive
from command_line import Run, refused

from bicompile.model.config import KEYWORDS

BAD = {
    "missing": "is not a folder",
    "empty": "is empty",
    "other": "is neither an unpacked Speech Commands archive",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_folder_that_is_no_data_is_one_sentence(
    bicompile: Run, tmp_path: Path, recipe_file: Path, kind: str
) -> None:
    data = tmp_path / "data"
    if kind != "missing":
        data.mkdir()
    if kind == "other":
        (data / "notes.txt").write_text("mine")
    ended = bicompile("train", data, "-o", tmp_path / "run", "--recipe", recipe_file)
    refused(ended, str(data), BAD[kind])
    assert not (tmp_path / "run").exists()


def test_unreadable_clips_are_refused_and_then_left_out(
    bicompile: Run, tmp_path: Path, recipe_file: Path
) -> None:
    data = write_archive(tmp_path / "data", (*KEYWORDS, "house"))
    path = data / "house" / f"{TRAIN}_nohash_0.wav"
    path.write_bytes(path.read_bytes()[:20_000])
    command = ("train", data, "-o", tmp_path / "run", "--recipe", recipe_file)
    refused(bicompile(*command), "1 of 46 sound files", f"{path} (cut short)")
    ended = bicompile(*command, "--skip-unreadable")
    assert ended.status == 0, ended.err
    assert f"left out 1: {path} (cut short)" in ended.out
    assert (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.parametrize("disk", [16], indirect=True)
def test_a_disk_that_fills_up_while_training_is_one_sentence(
    bicompile: Run, corpus_folder: Path, recipe_file: Path, disk: Path
) -> None:
    ended = bicompile("train", corpus_folder, "-o", disk / "run", "--recipe", recipe_file)
    assert ended.status == 2
    assert ended.err.startswith(f"bicompile: the disk is full: {disk / 'run' / 'state.pt'}")
    assert ended.err.count("\n") == 1
    assert [path.name for path in (disk / "run").iterdir()] == ["run.json"]
