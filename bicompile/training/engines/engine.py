"""What every speech engine is to the corpus, and how programs are run for it."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from bicompile.errors import UserError

Sound = tuple[NDArray[np.float32], int]
"""Samples in [-1, 1], shape (n,), and their rate in Hz."""


@dataclass(frozen=True)
class Take:
    """How a word is said once; an engine uses what it understands."""

    word: str
    pitch: float
    """0 lowest to 1 highest of what the voice can do."""
    speed: float
    """1 is the voice's own; 2 takes half the time."""
    mark: str
    """A punctuation mark that colours the intonation, or nothing."""


class Engine(Protocol):
    """A program or a network that speaks.

    What it says depends on the arguments of `speak` and its version alone: an engine that draws
    random numbers begins them anew with every call.
    """

    name: str

    def version(self) -> str:
        """Say the engine's version; raises UserError when it or a voice of it is not installed."""

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn; files may be written in the folder `scratch`."""


def run_program(command: list[str], package: str, folder: Path | None = None) -> str:
    """Run a program in `folder` and return its output; name the Debian package if it is missing."""
    if shutil.which(command[0]) is None:
        raise UserError(
            f"the speech engine {command[0]} is not installed; "
            f"install it with: apt install {package}"
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    # `flite --version` says its version and exits with 1.
    if done.returncode != 0 and "version" not in " ".join(command):
        raise UserError(
            f"the speech engine failed ({' '.join(command)}: {done.stderr.strip()}); "
            "see that the disk has space, then install it again with: "
            f"apt install --reinstall {package}"
        )
    return done.stdout


def version_in(text: str) -> str:
    """The first word of a program's answer that begins like a version: `2.5.0`."""
    found = re.search(r"\b\d+\.\d[\w.]*", text)
    return found.group() if found else "unknown"


def version_of_package(package: str, engine: str) -> str:
    """Versions of a PyPI package and of onnxruntime, which computes what it says.

    Raises UserError when the package is not installed.
    """
    try:
        return f"{version(package)} on onnxruntime {version('onnxruntime')}"
    except PackageNotFoundError:
        raise UserError(
            f"the speech engine {engine} ({package} on PyPI) is not installed; "
            "install it with: pip install 'bicompile[train]'"
        ) from None


def read_sound(path: Path) -> Sound:
    """Read the first channel of a file that an engine wrote."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples[:, 0], rate
