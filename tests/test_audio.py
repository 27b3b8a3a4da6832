"""Reading sound files of every kind, and refusing what is none."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bicompile.audio import read_wav
from bicompile.errors import UserError


def write_tone(path: Path, rate: int = 16000, seconds: float = 1.0, channels: int = 1) -> Path:
    time = np.arange(round(rate * seconds)) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype="FLOAT")
    return path


def test_a_second_at_16_khz_is_read_as_it_is(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    clip = read_wav(tmp_path / "a.wav")
    assert clip.notes == ()
    assert clip.samples.dtype == np.float32
    assert np.array_equal(clip.samples, samples / np.float32(32768))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_another_rate_is_resampled_and_said(tmp_path: Path, rate: int) -> None:
    clip = read_wav(write_tone(tmp_path / "a.wav", rate=rate))
    expected = read_wav(write_tone(tmp_path / "b.wav")).samples
    assert clip.notes == (f"resampled from {rate} Hz to 16000 Hz",)
    middle = slice(1000, 15000)
    assert np.abs(clip.samples[middle] - expected[middle]).max() < 1e-2


def test_channels_are_averaged_and_said(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (16000, 3)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    clip = read_wav(tmp_path / "a.wav")
    assert clip.notes == ("mean of 3 channels",)
    np.testing.assert_allclose(clip.samples, sound.mean(1), atol=1e-6)


def test_a_short_sound_is_followed_by_zeros_and_said(tmp_path: Path) -> None:
    clip = read_wav(write_tone(tmp_path / "a.wav", seconds=0.25))
    assert clip.notes == ("padded with zeros from 0.25 s",)
    assert np.all(clip.samples[4000:] == 0)
    assert np.any(clip.samples[3900:4000] != 0)


def test_a_long_sound_is_cut_and_said(tmp_path: Path) -> None:
    clip = read_wav(write_tone(tmp_path / "a.wav", seconds=3.2))
    first = read_wav(write_tone(tmp_path / "b.wav", seconds=1.0))
    assert clip.notes == ("cut to the first second of 3.20 s",)
    assert np.array_equal(clip.samples, first.samples)


def test_every_change_is_said(tmp_path: Path) -> None:
    clip = read_wav(write_tone(tmp_path / "a.wav", rate=44100, seconds=2, channels=2))
    assert [note.split()[0] for note in clip.notes] == ["mean", "resampled", "cut"]


def test_flac_is_read_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(16000, np.int16), 16000)
    assert read_wav(tmp_path / "a.flac").notes == ()


@settings(max_examples=25, deadline=None)
@given(st.integers(4000, 50000), st.integers(1, 60000), st.integers(1, 3))
def test_every_sound_becomes_16000_finite_samples(
    tmp_path_factory: pytest.TempPathFactory, rate: int, frames: int, channels: int
) -> None:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    rng = np.random.default_rng(frames)
    soundfile.write(path, rng.uniform(-1, 1, (frames, channels)), rate)
    clip = read_wav(path)
    assert clip.samples.shape == (16000,)
    assert clip.samples.dtype == np.float32
    assert np.isfinite(clip.samples).all()


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_wav(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "a.wav")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "not a file" in refused(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "empty" in refused(tmp_path / "a.wav")


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), 16000)
    assert "0 samples" in refused(tmp_path / "a.wav")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("this is no sound\n" * 100)
    assert "not audio" in refused(tmp_path / "a.wav")


def test_a_truncated_header_is_refused(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:20])
    refused(path)


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    assert "finite" in refused(tmp_path / "a.wav")
