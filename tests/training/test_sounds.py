"""From a clean word to a recording of one second."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicompile.training.sounds import NOISES, finish, make_noise


@given(st.integers(0, 2**32 - 1), st.sampled_from([8000, 16000, 22050]))
def test_a_recording_is_a_second_of_bounded_sound(seed: int, rate: int) -> None:
    rng = np.random.default_rng(seed)
    word = np.sin(np.arange(rate // 2) * rng.uniform(0.05, 1)).astype(np.float32)
    clip = finish(word, rate, rng.uniform(0.88, 1.15), rng)
    assert clip.shape == (16000,)
    assert clip.dtype == np.float32
    assert np.abs(clip).max() <= 0.99
    assert clip.std() > 0.01


def test_a_silent_word_is_refused() -> None:
    with pytest.raises(ValueError, match="silent"):
        finish(np.zeros(8000, np.float32), 16000, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_unit_deviation(kind: str) -> None:
    noise = make_noise(kind, 16000, np.random.default_rng(0))
    assert noise.shape == (16000,)
    assert noise.dtype == np.float32
    assert abs(noise.std() - 1) < 1e-3


def test_a_long_word_is_said_faster_rather_than_cut() -> None:
    rate, seconds, loud_seconds = 16000, 1.5, 0.25
    word = np.sin(np.arange(int(seconds * rate)) * 0.2).astype(np.float32)
    word[: -int(loud_seconds * rate)] *= 0.1  # its end is the loudest
    clip = finish(word, rate, 1.0, np.random.default_rng(3))
    loud = np.flatnonzero(np.abs(clip) > 0.5 * np.abs(clip).max())
    assert (loud[-1] - loud[0]) / rate == pytest.approx(loud_seconds / seconds, rel=0.1)


def test_words_begin_at_different_times() -> None:
    word = np.sin(np.arange(6400) * 0.2).astype(np.float32)
    begins = []
    for seed in range(40):
        clip = finish(word, 16000, 1.0, np.random.default_rng(seed))
        begins.append(int(np.argmax(np.abs(clip) > 0.5 * np.abs(clip).max())))
    assert np.std(begins) > 800
