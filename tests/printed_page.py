"""Carries out a page in docs/: writes its files, runs its commands, compares their output."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_BLOCK = re.compile(
    r"(?:(?P<before>[^\n]*)\n)?\n```(?P<language>\w*)\n(?P<text>.*?)```\n", re.DOTALL
)


def carry_out(page: Path, folder: Path, environment: Mapping[str, str]) -> int:
    """Do what the page says in a folder; gives how many outputs it shows.

    A block of `sh` is run, and a block without a language that follows one is its output. Before
    any other block stands the name of the file that it is, or of one that is there and has it.
    """
    shown, printed = 0, None
    for block in _BLOCK.finditer(page.read_text()):
        language, text = block["language"], block["text"]
        if language == "sh":
            printed = _run(text, folder, environment)
        elif language == "":
            assert printed is not None, f"{page.name} shows an output of no command:\n{text}"
            assert printed == text
            shown, printed = shown + 1, None
        else:
            *_, name = re.findall(r"`([\w./]+)`", block["before"] or "")
            file = folder / name
            if file.exists():
                assert text in file.read_text()
            else:
                file.write_text(text)
    return shown


def _run(commands: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}"
    return done.stdout
