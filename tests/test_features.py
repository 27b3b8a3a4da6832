"""The numpy features, against the torch ones and against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bicompile.features import FLOOR, hann, log_mel, mel_filters


def noise(seed: int, level: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, 16000)).astype(np.float32)


def test_shape_and_type_are_those_of_a_network_input() -> None:
    got = log_mel(noise(0, 0.5))
    assert got.shape == (1, 1, 32, 32)
    assert got.dtype == np.float32


def test_silence_is_the_floor() -> None:
    assert np.all(log_mel(np.zeros(16000, np.float32)) == 10 * np.log10(FLOOR))


@pytest.mark.parametrize("samples", [15999, 16001, 0])
def test_another_length_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="16000"):
        log_mel(np.zeros(samples, np.float32))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1))
def test_equal_to_torch_within_a_thousandth_of_a_decibel(seed: int, level: float) -> None:
    torch = pytest.importorskip("torch")
    from bicompile.training.log_mel import LogMel

    rng = np.random.default_rng(seed)
    tone = np.sin(np.arange(16000) * rng.uniform(0.001, 3)).astype(np.float32)
    samples = noise(seed, level * 1e-3) + np.float32(level) * tone
    expected = LogMel()(torch.from_numpy(samples[None])).numpy()
    assert np.abs(log_mel(samples) - expected).max() < 1e-3


def test_a_frame_follows_the_definition_written_as_sums() -> None:
    samples = noise(1, 0.3)
    frame = 5
    places = np.arange(frame * 512 - 1024, frame * 512 + 1024)
    n = np.arange(2048)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 2048)
    window /= np.sqrt((window**2).sum())
    k = np.arange(1025)[:, None]
    spectrum = (samples[places] * window * np.exp(-2j * np.pi * k * n / 2048)).sum(1)
    power = (np.abs(spectrum) ** 2) @ mel_filters()
    np.testing.assert_allclose(
        log_mel(samples)[0, 0, :, frame], 10 * np.log10(power), rtol=0, atol=1e-4
    )


def test_the_first_frame_is_padded_by_reflection() -> None:
    samples = noise(2, 0.3)
    frame = np.concatenate([samples[1024:0:-1], samples[:1024]])
    power = np.abs(np.fft.rfft(frame * hann())) ** 2 @ mel_filters()
    np.testing.assert_allclose(log_mel(samples)[0, 0, :, 0], 10 * np.log10(power), atol=1e-4)


def test_a_louder_sound_is_louder_by_as_many_decibels() -> None:
    samples = noise(3, 0.05)
    np.testing.assert_allclose(log_mel(samples * np.float32(10)) - log_mel(samples), 20, atol=1e-3)


def test_a_tone_is_loudest_in_the_filter_that_its_frequency_peaks_in() -> None:
    hertz = 1000
    samples = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)
    expected = mel_filters()[hertz * 2048 // 16000].argmax()
    assert log_mel(samples)[0, 0, :, 16].argmax() == expected
