"""What a corpus is made of: samples, and how a folder lists them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bicompile.audio import read_wav
from bicompile.features import SAMPLES

SPLITS = ("train", "validation", "test")
LIST_OF_SPLIT = {"validation": "validation_list.txt", "test": "testing_list.txt"}
NOISE_FOLDER = "_background_noise_"


@dataclass(frozen=True)
class Sample:
    """One second of sound that stands in a file: a spoken word, or a piece of noise."""

    path: Path
    label: str
    split: str
    engine: str
    """Who made it: a speech engine, `recorded` for a person, `silence` for a piece of noise."""
    voice: str
    start: int = 0
    """Where the second begins in the file, in samples; only in files of noise."""
    gain: float = 1.0

    def load(self) -> NDArray[np.float32]:
        """Return the sound, float32 (16000,): a shorter one is followed by zeros, a longer cut."""
        if self.engine != "silence":
            return read_wav(self.path).samples
        if self.gain == 0:
            return np.zeros(SAMPLES, np.float32)
        noise, _rate = soundfile.read(self.path, SAMPLES, self.start, dtype="float32")
        samples: NDArray[np.float32] = noise * np.float32(self.gain)
        return samples


@dataclass(frozen=True)
class Listing:
    """What a folder says it holds, before any sound is read."""

    clips: list[Sample]
    """Every spoken clip, with the word as its label."""
    origin: dict[str, Any]
    """Where the clips come from, as JSON values."""
    silence_share: float
    """Silences per spoken clip of a split."""
    quiet_share: float
    """Share of the silences that are digital zeros; the others are pieces of noise."""
    noise_share: float
    """Share of each noise file, from its beginning, that training may use."""
