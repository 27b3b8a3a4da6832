"""Sound files of any rate and channel count become one second at 16 kHz."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from bicompile.errors import UserError
from bicompile.features import RATE, SAMPLES

# Read a little more than the second that is kept: a resampler looks ahead.
SECONDS_READ = 1.25


@dataclass(frozen=True)
class Clip:
    """One second of sound, and what was done to the file to get it."""

    samples: NDArray[np.float32]
    """(16000,) in [-1, 1]."""
    notes: tuple[str, ...]
    """Short phrases such as `cut to the first second of 3.20 s`; empty when nothing was changed."""


def read_wav(path: Path) -> Clip:
    """Read the first second of a sound file, as one channel at 16 kHz.

    Channels are averaged, another rate is resampled, a shorter sound is followed by zeros and a
    longer one is cut; every change is noted. Raises UserError for a file that is missing, empty,
    not audio, or that holds values which are not numbers.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give a sound file, such as a WAV")
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a sound file, such as a WAV")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file; give a sound file, such as a WAV")
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            sound = file.read(int(SECONDS_READ * rate) + 1, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path} is not audio that can be read ({error.error_string.rstrip('.')}); "
            "give a sound file, such as a WAV"
        ) from error
    if len(sound) == 0:
        raise UserError(f"{path} holds no sound (0 samples); give one with at least one sample")
    if not np.isfinite(sound).all():
        raise UserError(f"{path} holds samples that are not finite numbers; write it again")
    return _one_second(sound, rate, frames)


def _one_second(sound: NDArray[np.float32], rate: int, frames: int) -> Clip:
    notes = []
    if sound.shape[1] > 1:
        notes.append(f"mean of {sound.shape[1]} channels")
    samples = sound.mean(axis=1)
    if rate != RATE:
        notes.append(f"resampled from {rate} Hz to {RATE} Hz")
        samples = soxr.resample(samples, rate, RATE)
    if frames > rate:
        notes.append(f"cut to the first second of {frames / rate:.2f} s")
    elif frames < rate:
        notes.append(f"padded with zeros from {frames / rate:.2f} s")
    samples = samples[:SAMPLES]
    samples = np.pad(samples, (0, SAMPLES - len(samples)))
    return Clip(samples.astype(np.float32), tuple(notes))
