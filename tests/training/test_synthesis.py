"""The synthesized corpus: held-out voices, and the same bytes for the same seed."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from bicompile.errors import UserError
from bicompile.training import synthesis
from bicompile.training.corpus import read_corpus
from bicompile.training.sounds import NOISES, finish, make_noise
from bicompile.training.synthesis import Speaker, split_variants, synthesize

FEW = [
    Speaker("espeak-ng", "en-us+f2", "train", 1, 2),
    Speaker("flite", "awb", "validation", 1, 1),
    Speaker("espeak-ng", "en-gb+m3", "test", 1, 1),
]


@pytest.fixture
def few_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("espeak-ng", "flite"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(synthesis, "speakers", lambda: FEW)
    monkeypatch.setattr(synthesis, "NOISE_SECONDS", 8)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("few_speakers")
def test_the_bytes_depend_on_the_seed_and_not_on_the_processes(tmp_path: Path) -> None:
    synthesize(tmp_path / "one", seed=0, jobs=1)
    synthesize(tmp_path / "two", seed=0, jobs=2)
    synthesize(tmp_path / "other", seed=1, jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")
    # Clips are one second at 16 kHz, 16 bit, and nothing is left beside the corpora.
    corpus = read_corpus(tmp_path / "one")
    assert len(corpus.samples) == 12 + 11 + 11 + 3
    info = soundfile.info(corpus.samples[0].path)
    assert (info.samplerate, info.channels, info.frames) == (16000, 1, 16000)
    assert info.subtype == "PCM_16"
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "other"}


def times(folder: Path) -> dict[str, int]:
    """When each spoken clip was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*_nohash_*.wav")}


@pytest.mark.usefixtures("few_speakers")
def test_a_stopped_call_keeps_the_voices_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(tmp_path / "whole", seed=0, jobs=1)
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "_collect", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            synthesize(tmp_path / "out", seed=0, jobs=1)
    assert not (tmp_path / "out").exists()
    written = times(tmp_path / ".out.partial")
    synthesize(tmp_path / "out", seed=0, jobs=1)
    assert times(tmp_path / "out") == written
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("few_speakers")
def test_a_finished_corpus_is_left_alone_and_another_seed_refused(tmp_path: Path) -> None:
    synthesize(tmp_path / "out", seed=0, jobs=1)
    before = contents(tmp_path / "out")
    synthesize(tmp_path / "out", seed=0, jobs=1)
    with pytest.raises(UserError, match="another seed"):
        synthesize(tmp_path / "out", seed=1, jobs=1)
    assert contents(tmp_path / "out") == before


@pytest.mark.usefixtures("few_speakers")
def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    with pytest.raises(UserError, match="something other than a corpus"):
        synthesize(tmp_path / "out", seed=0, jobs=1)
    with pytest.raises(UserError, match="is a file"):
        synthesize(tmp_path / "out" / "letter.txt", seed=0, jobs=1)


def test_a_missing_engine_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt install espeak-ng"):
        synthesize(tmp_path / "out", seed=0, jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_variant_and_its_near_copies_share_a_split() -> None:
    names = [f"voice{chr(97 + i)}{n}" for i in range(20) for n in ("", 2, 3)]
    splits = split_variants(names)
    for i in range(20):
        assert len({splits[f"voice{chr(97 + i)}{n}"] for n in ("", 2, 3)}) == 1


def test_short_names_with_numbers_are_different_voices() -> None:
    splits = split_variants([f"m{n}" for n in range(40)])
    assert len(set(splits.values())) == 3


def test_about_an_eighth_is_held_out_for_each_split() -> None:
    splits = list(split_variants([f"voice-{n}-x" for n in range(100)]).values())
    assert splits.count("test") == splits.count("validation") == 12


def test_effects_are_no_voices() -> None:
    assert split_variants(["whisper", "robosoft4", "anikaRobot"]) == {}


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


def test_the_manifest_names_engine_and_voice_of_every_clip(
    tmp_path: Path, few_speakers: None
) -> None:
    synthesize(tmp_path / "out", seed=0, jobs=1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert set(manifest["engines"]) == {"espeak-ng", "flite"}
    told = {file for entry in manifest["speakers"] for file in entry["files"]}
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.wav")}
    assert told == {name for name in found if not name.startswith("_")}
