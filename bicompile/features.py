"""Log-mel features of one second of sound, in numpy.

The definition is that of torchaudio's `MelSpectrogram(16000, n_fft=2048, hop_length=512, n_mels=32,
normalized=True)` followed by decibels: periodic Hann window divided by its L2 norm, frames centred
with reflect padding, power spectrum, triangular HTK mel filters without area normalisation,
`10·log10(max(power, 1e-10))`.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RATE = 16000
SAMPLES = 16000
WINDOW = 2048
HOP = 512
MELS = 32
FRAMES = SAMPLES // HOP + 1
FLOOR = 1e-10


@lru_cache(maxsize=1)
def hann() -> NDArray[np.float64]:
    """The periodic Hann window divided by its L2 norm, float64 (2048,)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    window /= np.linalg.norm(window)
    window.setflags(write=False)
    return window


@lru_cache(maxsize=1)
def mel_filters() -> NDArray[np.float64]:
    """Weights of the triangular filters, float64 (1025 frequencies, 32 mels).

    Their corners are equally spaced on the HTK scale, `mel = 2595·log10(1 + hertz/700)`.
    """
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies[:, None] - left) / (centre - left)
    falling = (right - frequencies[:, None]) / (right - centre)
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    filters.setflags(write=False)
    return filters


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn one second at 16 kHz, float32 (16000,) in [-1, 1], into dB, float32 (1, 1, 32, 32).

    The axes are batch, channel, mel band from low to high, frame. Raises ValueError for another
    shape.
    """
    if samples.shape != (SAMPLES,):
        raise ValueError(f"expected {SAMPLES} samples, got an array of shape {samples.shape}")
    padded = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * hann(), axis=1)) ** 2
    decibels = 10 * np.log10(np.maximum(power @ mel_filters(), FLOOR))
    return decibels.T[None, None].astype(np.float32)
