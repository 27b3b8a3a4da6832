"""What happens to a spoken word between the engine and the file: voice, room, microphone, noise."""

import numpy as np
import soxr
from numpy.typing import NDArray

from bicompile.features import RATE, SAMPLES

Samples = NDArray[np.float32]
NOISES = ("white", "pink", "brown", "band", "hum")


def decibels(value: float) -> float:
    """Amplitude factor of a level in dB."""
    return float(10 ** (value / 20))


def rms(x: Samples) -> float:
    """Root mean square, never quite zero."""
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)) + 1e-9)


def make_noise(kind: str, samples: int, rng: np.random.Generator) -> Samples:
    """Noise of one of `NOISES` with standard deviation 1, float32 (samples,)."""
    noise = rng.standard_normal(samples)
    bins = np.arange(samples // 2 + 1) + 1.0
    if kind == "hum":
        time = np.arange(samples) / RATE
        base = rng.choice([50, 60, 100, 120])
        noise *= 0.05
        for harmonic in range(1, 9):
            level, phase = rng.uniform(0.2, 1) / harmonic, rng.uniform(0, 2 * np.pi)
            noise += level * np.sin(2 * np.pi * base * harmonic * time + phase)
    elif kind != "white":
        if kind == "pink":
            gain = bins**-0.5
        elif kind == "brown":
            gain = 1 / bins
        else:
            centre = rng.uniform(300, 4000)
            gain = 1 / (1 + ((bins * RATE / samples - centre) / (centre / 3)) ** 2)
        noise = np.fft.irfft(np.fft.rfft(noise) * gain, samples)
    scaled: Samples = (noise / noise.std()).astype(np.float32)
    return scaled


def finish(sound: Samples, rate: int, shorter: float, rng: np.random.Generator) -> Samples:
    """Make a recording, float32 (16000,) in (-1, 1), of a clean word at any rate.

    `shorter` is the factor by which the vocal tract is made shorter: formants and pitch rise, and
    the word gets faster. Raises ValueError when the sound is silent.
    """
    word = soxr.resample(sound - sound.mean(), rate * shorter, RATE).astype(np.float32)
    word = _trim(word)
    if len(word) > SAMPLES:  # say it faster rather than cut its end off
        word = soxr.resample(word, len(word), SAMPLES)[:SAMPLES]
    if rng.random() < 0.4:
        word = _in_a_room(word, rng)
    if rng.random() < 0.5:
        tilt = np.float32(rng.uniform(-0.6, 0.6))  # a microphone that favours one end
        word = word + tilt * np.concatenate([np.zeros(1, np.float32), word[:-1]])
    space = SAMPLES - len(word)
    start = int(np.clip(space // 2 + rng.normal(0, 1600), 0, space))
    clip = np.pad(word, (start, space - start))
    noise = make_noise(str(rng.choice(NOISES)), SAMPLES, rng)
    clip += noise * np.float32(rms(word) * decibels(-rng.uniform(3, 35)))
    clip *= np.float32(decibels(rng.uniform(-32, -14)) / rms(clip))
    limit = np.float32(0.99)
    clipped: Samples = np.clip(clip, -limit, limit)
    return clipped


def _trim(word: Samples) -> Samples:
    """Keep what is louder than 2 % of the loudest, with a little around it."""
    envelope = np.convolve(np.abs(word), np.full(160, 1 / 160, np.float32), "same")
    loud = np.flatnonzero(envelope > 0.02 * envelope.max())
    if len(loud) == 0:
        raise ValueError("the sound is silent")
    return word[max(0, loud[0] - 320) : loud[-1] + 480]


def _in_a_room(word: Samples, rng: np.random.Generator) -> Samples:
    """Add the reverberation of a random room, as exponentially decaying noise."""
    length = int(rng.uniform(0.1, 0.5) * RATE)
    echo = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    echo *= rng.uniform(0.1, 0.5) / np.sqrt((echo**2).sum())
    echo[0] = 1
    size = len(word) + length - 1
    wet = np.fft.irfft(np.fft.rfft(word, size) * np.fft.rfft(echo, size), size)
    return wet[:SAMPLES].astype(np.float32)
