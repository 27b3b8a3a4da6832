"""docs/use-in-c.md is true: its files are written, built and run as the page prints them."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from printed_page import carry_out

PAGE = Path(__file__).parents[1] / "docs" / "use-in-c.md"


def test_the_page_on_c_can_be_followed_word_by_word(tmp_path: Path) -> None:
    for program, package in (("qemu-aarch64", "qemu-user"), ("cmake", "cmake")):
        assert shutil.which(program), f"{program} is not installed: apt-get install {package}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert carry_out(PAGE, tmp_path, {**os.environ, "PATH": path}) == 2


def test_a_page_with_another_output_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\necho one\n```\n\n```\ntwo\n```\n")
    with pytest.raises(AssertionError):
        carry_out(page, tmp_path, {"PATH": os.environ["PATH"]})


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\nfalse\n```\n")
    with pytest.raises(AssertionError, match="false"):
        carry_out(page, tmp_path, {"PATH": os.environ["PATH"]})
