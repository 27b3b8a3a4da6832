from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
import soundfile

import bicompile
from bicompile.artifact import Artifact, read_artifact
from bicompile.devices import open_device
from bicompile.errors import UserError
from bicompile.features import log_mel
from bicompile.recognise import find_clips, recognise


def write_clip(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).standard_normal(16000) * 0.1
    soundfile.write(path, noise, 16000)
    return path


@pytest.fixture
def artifact(compiled_folder: Path) -> Artifact:
    return read_artifact(compiled_folder)


def test_the_word_is_the_largest_output_and_the_probability_its_softmax(
    artifact: Artifact, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.wav")
    (found,) = recognise(artifact, open_device("emulator"), [clip])
    sound, _ = soundfile.read(clip, dtype="float32")
    scores = artifact.run(log_mel(sound)).ravel().astype(np.float64)
    shares = np.exp(scores) / np.exp(scores).sum()
    best, second = np.argsort(-scores, kind="stable")[:2]
    assert found.word == networks.LABELS[best]
    assert found.runner_up == networks.LABELS[second]
    assert found.probability == pytest.approx(shares[best])
    assert found.runner_up_probability == pytest.approx(shares[second])
    assert found.instructions is not None
    assert found.instructions > 10_000


def test_without_labels_words_are_numbers(artifact: Artifact, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.wav")
    (named,) = recognise(artifact, open_device("emulator"), [clip])
    (found,) = recognise(replace(artifact, labels=()), open_device("emulator"), [clip])
    assert found.word == str(networks.LABELS.index(named.word))
    assert found.spoken is None


def test_the_folder_of_a_clip_tells_what_was_spoken(artifact: Artifact, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / folder / "clip.wav") for folder in ("yes", "elsewhere")]
    found = recognise(artifact, open_device("emulator"), clips)
    assert [r.spoken for r in found] == ["yes", None]


def test_folders_are_searched_in_order_and_files_stand_as_given(tmp_path: Path) -> None:
    names = ("b/2.wav", "b/1.WAV", "a/x/3.wav")
    clips = [write_clip(tmp_path / "clips" / name) for name in names]
    (tmp_path / "clips" / "notes.txt").write_text("not sound")
    single = write_clip(tmp_path / "z.wav")
    assert find_clips([single, tmp_path / "clips"]) == [single, clips[2], clips[1], clips[0]]


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_clips([tmp_path])
    assert str(caught.value) == f"{tmp_path} has no sound files (.wav, .flac, .ogg) in it"


def test_a_model_that_takes_no_clips_is_refused(tmp_path: Path) -> None:
    import onnx

    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    artifact = bicompile.compile(tmp_path / "float.onnx", target="cortex-a53")
    with pytest.raises(UserError) as caught:
        recognise(artifact, open_device("emulator"), [write_clip(tmp_path / "clip.wav")])
    assert str(caught.value) == (
        f"{artifact.folder} takes x of shape (1, 6), not the log-mel (1, 1, 32, 32) of a clip; "
        "run it from Python with its own input"
    )


def test_changes_to_a_clip_are_noted(artifact: Artifact, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros((44100 * 2, 2)), 44100)
    (found,) = recognise(artifact, open_device("emulator"), [tmp_path / "long.wav"])
    assert found.notes == (
        "mean of 2 channels",
        "resampled from 44100 Hz to 16000 Hz",
        "cut to the first second of 2.00 s",
    )
