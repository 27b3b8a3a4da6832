"""Speech engines that can say a word, behind one small protocol."""

import re
import shutil
import subprocess
from dataclasses import dataclass
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

    pitch: float
    """0 lowest to 1 highest of what the voice can do."""
    speed: float
    """1 is the voice's own; 2 takes half the time."""
    mark: str
    """A punctuation mark that colours the intonation, or nothing."""


class Engine(Protocol):
    """A program that speaks; its output depends on nothing but the arguments of `speak`."""

    name: str

    def version(self) -> str:
        """Say the engine's version; raises UserError when the engine is not installed."""

    def speak(self, text: str, voice: str, take: Take, scratch: Path) -> Sound:
        """Say `text`; files may be written in the folder `scratch`."""


def _run(command: list[str], package: str) -> str:
    """Run a program to its end and return its output; name the Debian package if it is missing."""
    if shutil.which(command[0]) is None:
        raise UserError(
            f"the speech engine {command[0]} is not installed; "
            f"install it with: apt install {package}"
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # `flite --version` says its version and exits with 1.
    if done.returncode != 0 and "version" not in " ".join(command):
        raise UserError(
            f"the speech engine failed ({' '.join(command)}: {done.stderr.strip()}); "
            f"install it again with: apt install --reinstall {package}"
        )
    return done.stdout


def _read(path: Path) -> Sound:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples[:, 0], rate


class EspeakNg:
    """espeak-ng, a formant synthesizer; a voice is `accent+variant`, such as `en-gb+Alex`."""

    name = "espeak-ng"

    def version(self) -> str:
        """Say the engine's version; raises UserError when the engine is not installed."""
        words = _run(["espeak-ng", "--version"], self.name).split()
        return next((word for word in words if word[:1].isdigit()), "unknown")

    def variants(self) -> list[str]:
        """Names of the voice variants that are installed, sorted; any accent can take each."""
        table = _run(["espeak-ng", "--voices=variant"], self.name)
        # The file column is the only one with `!v/`; names may hold single spaces.
        found = re.findall(r"!v/(\S+(?: \S+)*)", table)
        return sorted(name.split(" (")[0] for name in found)

    def speak(self, text: str, voice: str, take: Take, scratch: Path) -> Sound:
        """Say `text`."""
        path = scratch / "espeak-ng.wav"
        pitch, words_per_minute = round(99 * take.pitch), round(160 * take.speed)
        options = ["-v", voice, "-p", str(pitch), "-s", str(words_per_minute), "-w", str(path)]
        _run(["espeak-ng", *options, text + take.mark], self.name)
        return _read(path)


class Flite:
    """flite, with unit selection and diphone voices of real speakers."""

    name = "flite"

    def version(self) -> str:
        """Say the engine's version; raises UserError when the engine is not installed."""
        found = re.search(r"version:\s*(\S+)", _run(["flite", "--version"], self.name))
        return found.group(1) if found else "unknown"

    def speak(self, text: str, voice: str, take: Take, scratch: Path) -> Sound:
        """Say `text`."""
        path = scratch / "flite.wav"
        low, high = (130, 225) if voice == "slt" else (85, 150)
        hertz = low + (high - low) * take.pitch
        options = ["-voice", voice, "--setf", f"duration_stretch={1 / take.speed:.3f}"]
        options += ["--setf", f"int_f0_target_mean={hertz:.0f}", "-o", str(path)]
        _run(["flite", *options, "-t", text + take.mark], self.name)
        return _read(path)


ENGINES: dict[str, Engine] = {engine.name: engine for engine in (EspeakNg(), Flite())}
