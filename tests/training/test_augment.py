"""Augmentation keeps a clip a clip."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bicompile.training.augment import augment, change_speed, shift

CLIP = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
NOISES = (np.random.default_rng(1).uniform(-0.1, 0.1, 40000).astype(np.float32),)


@given(st.integers(0, 2**32 - 1))
def test_an_augmented_clip_is_a_second_of_bounded_sound(seed: int) -> None:
    got = augment(CLIP, NOISES, np.random.default_rng(seed))
    assert got.shape == (16000,)
    assert got.dtype == np.float32
    assert np.abs(got).max() <= 0.56


@given(st.integers(0, 2**32 - 1))
def test_equal_seeds_give_equal_clips(seed: int) -> None:
    first = augment(CLIP, NOISES, np.random.default_rng(seed))
    assert np.array_equal(first, augment(CLIP, NOISES, np.random.default_rng(seed)))


def test_the_clip_given_is_not_changed() -> None:
    before = CLIP.copy()
    for seed in range(20):
        augment(CLIP, NOISES, np.random.default_rng(seed))
    assert np.array_equal(CLIP, before)


@given(st.integers(-16000, 16000))
def test_a_shift_moves_and_fills_with_zeros(samples: int) -> None:
    got = shift(CLIP, samples)
    for place in (0, 1, 8000, 15998, 15999):
        source = place - samples
        assert got[place] == (CLIP[source] if 0 <= source < 16000 else 0)


def test_the_speed_of_a_tone_is_its_pitch() -> None:
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 400 * time).astype(np.float32)
    for speed in (0.8, 1.0, 1.25):
        spectrum = np.abs(np.fft.rfft(change_speed(tone, speed)[:12000], 16000))
        assert spectrum.argmax() == round(400 * speed)


def test_a_faster_clip_ends_earlier() -> None:
    got = change_speed(np.ones(16000, np.float32), 1.25)
    assert np.all(got[:12800] == 1)
    assert np.all(got[12800:] == 0)
