"""Random changes of a clip before its features are taken, as in the released BiFSMN recipe."""

import numpy as np
from numpy.typing import NDArray

from bicompile.features import SAMPLES

Samples = NDArray[np.float32]


def augment(clip: Samples, noises: tuple[Samples, ...], rng: np.random.Generator) -> Samples:
    """Change level, speed, place and background, each by chance; float32 (16000,) → the same.

    Gain 0.7 to 1.1, speed up to 20 % off, shift up to 0.2 s, each with probability 0.5; noise
    mixed in with up to 0.3 of the whole, with probability 0.3.
    """
    if rng.random() < 0.5:
        clip = clip * np.float32(rng.uniform(0.7, 1.1))
    if rng.random() < 0.5:
        clip = change_speed(clip, rng.uniform(0.8, 1.2))
    if rng.random() < 0.5:
        clip = shift(clip, int(rng.integers(-3200, 3201)))
    if rng.random() < 0.3:
        noise = noises[int(rng.integers(len(noises)))]
        start = int(rng.integers(len(noise) - SAMPLES + 1))
        share = np.float32(rng.uniform(0, 0.3))
        clip = (1 - share) * clip + share * noise[start : start + SAMPLES]
    return clip


def change_speed(clip: Samples, speed: float) -> Samples:
    """Play `speed` times as fast, pitch included: zeros follow, or the end is cut."""
    length = min(int(SAMPLES / speed), SAMPLES)
    where = np.arange(length) * speed
    played = np.interp(where, np.arange(SAMPLES), clip).astype(np.float32)
    return np.pad(played, (0, SAMPLES - length))


def shift(clip: Samples, samples: int) -> Samples:
    """Move later in time by `samples`, or earlier when negative; zeros fill what becomes free."""
    moved = np.zeros_like(clip)
    if samples >= 0:
        moved[samples:] = clip[: len(clip) - samples]
    else:
        moved[:samples] = clip[-samples:]
    return moved
