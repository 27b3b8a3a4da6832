"""The speech engines, where they are installed, and what is said where they are not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bicompile.errors import UserError
from bicompile.training.engines import ENGINES, EspeakNg, Take

VOICES = {"espeak-ng": "en-gb+m3", "flite": "slt"}
TAKE = Take(pitch=0.5, speed=1.0, mark="!")


def needs(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_engine_is_named_with_its_package(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=f"apt install {name}"):
        ENGINES[name].version()


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_the_same_twice(name: str, tmp_path: Path) -> None:
    needs(name)
    sound, rate = ENGINES[name].speak("yes", VOICES[name], TAKE, tmp_path)
    again, _ = ENGINES[name].speak("yes", VOICES[name], TAKE, tmp_path)
    assert sound.dtype == np.float32
    assert len(sound) > 0.2 * rate
    assert np.abs(sound).max() > 0.05
    assert np.array_equal(sound, again)


@pytest.mark.parametrize("name", ENGINES)
def test_a_faster_take_is_shorter(name: str, tmp_path: Path) -> None:
    needs(name)
    slow, _ = ENGINES[name].speak("seven", VOICES[name], Take(0.5, 0.8, ""), tmp_path)
    fast, _ = ENGINES[name].speak("seven", VOICES[name], Take(0.5, 1.3, ""), tmp_path)
    assert len(fast) < 0.9 * len(slow)


@pytest.mark.parametrize("name", ENGINES)
def test_a_version_begins_with_a_digit_or_the_name(name: str) -> None:
    needs(name)
    version = ENGINES[name].version()
    assert version[0].isdigit() or version.startswith(name)


def test_espeak_variants_are_names_without_their_folder() -> None:
    needs("espeak-ng")
    variants = EspeakNg().variants()
    assert variants == sorted(set(variants))
    assert {"m1", "f1", "whisper"} <= set(variants)
    assert not [name for name in variants if "/" in name or name != name.strip()]
