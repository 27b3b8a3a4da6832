import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bicompile.errors import UserError
from bicompile.files import atomic_file, atomic_folder, folder_of_this_process

MARK = "manifest.json"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fill(folder: Path, content: str = "new") -> None:
    (folder / MARK).write_text(content)


def write_and_raise(path: Path, error: BaseException) -> None:
    path.write_text("half")
    raise error


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_file(target) as path:
        path.write_text("content")
        assert not target.exists()
    assert target.read_text() == "content"
    assert names(target.parent) == {"file.txt"}
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_file_keeps_its_old_content_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_file(target) as path:
        write_and_raise(path, ValueError("stop"))
    assert target.read_text() == "old"
    assert names(tmp_path) == {"file.txt"}


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "an older output"])
def test_a_folder_appears_whole_and_alone(tmp_path: Path, before: str) -> None:
    target = tmp_path / "out"
    if before != "nothing":
        target.mkdir()
    if before == "an older output":
        fill(target, "old")
        (target / "left over").write_text("old")
    with atomic_folder(target, replaces=MARK) as folder:
        fill(folder)
        assert before == "nothing" or "left over" in names(target) or not names(target)
    assert names(target) == {MARK}
    assert (target / MARK).read_text() == "new"
    assert names(tmp_path) == {"out"}
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "error", [ValueError("stop"), KeyboardInterrupt()], ids=["error", "ctrl-c"]
)
def test_a_folder_is_as_it_was_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out"
    target.mkdir()
    fill(target, "old")
    with pytest.raises(type(error)), atomic_folder(target, replaces=MARK) as folder:
        write_and_raise(folder / MARK, error)
    assert (target / MARK).read_text() == "old"
    assert names(tmp_path) == {"out"}


def test_a_folder_with_other_content_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError) as caught, atomic_folder(tmp_path, replaces=MARK):
        pytest.fail("the block ran")
    assert str(caught.value) == (
        f"{tmp_path} already holds something else (no {MARK} in it); choose an empty or new folder"
    )
    assert names(tmp_path) == {"thesis.txt"}


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="file is a file; choose a folder for the output"),
        atomic_folder(tmp_path / "file", replaces=MARK),
    ):
        pytest.fail("the block ran")


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for opened in (
        atomic_folder(tmp_path / "file" / "out", replaces=MARK),
        atomic_file(tmp_path / "file" / "out"),
    ):
        with (
            pytest.raises(
                UserError, match=r"out cannot be written \(a file is where a folder is needed\)"
            ),
            opened,
        ):
            pytest.fail("the block ran")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, kind: str) -> None:
    opened = (
        atomic_file(tmp_path / "out")
        if kind == "file"
        else atomic_folder(tmp_path / "out", replaces=MARK)
    )
    with pytest.raises(UserError) as caught, opened:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == (
        f"the disk is full: {tmp_path / 'out'} was not written; free some space and run again"
    )
    assert not names(tmp_path)


def test_a_relative_place_in_the_working_folder_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_folder(Path("out"), replaces=MARK) as folder:
        fill(folder)
    assert names(tmp_path) == {"out"}


def test_a_link_to_a_folder_still_leads_to_the_output(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "link", replaces=MARK) as folder:
            fill(folder, content)
        assert (tmp_path / "real" / MARK).read_text() == content
    with atomic_file(tmp_path / "link" / "file") as path:
        path.write_text("content")
    assert (tmp_path / "real" / "file").exists()


def test_the_working_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UserError, match="is the working folder; choose a folder inside it"),
        atomic_folder(Path(), replaces=MARK),
    ):
        pytest.fail("the block ran")


def test_the_folder_of_a_process_ends_with_it() -> None:
    code = "from bicompile.files import *; print(folder_of_this_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bicompile-" in done.stdout
    assert not Path(done.stdout.strip()).exists()


def test_folders_of_a_process_are_apart() -> None:
    assert folder_of_this_process() != folder_of_this_process()
