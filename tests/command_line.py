"""Runs of the command line, in this process or in one of their own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMMAND = (sys.executable, "-c", "from bicompile.cli import main; main()")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def refused(ended: Ended, *said: str) -> None:
    """Status 2, one sentence, nothing else."""
    assert ended.status == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("bicompile: ")
    assert ended.err.count("\n") == 1, ended.err
    assert "internal error" not in ended.err
    for words in said:
        assert words in ended.err
