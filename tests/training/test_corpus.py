"""Reading a corpus folder, and refusing what is none."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bicompile.errors import UserError
from bicompile.training.corpus import SPLITS, read_corpus


def test_every_clip_has_its_label_split_engine_and_voice(corpus_folder: Path) -> None:
    spoken = [s for s in read_corpus(corpus_folder).samples if s.engine != "silence"]
    assert len(spoken) == 3 * (16 + 4 + 4)
    for sample in spoken:
        word = sample.path.parent.name
        assert sample.label == (word if word in ("yes", "no") else "unknown")
        assert sample.engine == "tones"
        assert sample.voice == sample.split == sample.path.name.split("_")[0]


def test_a_word_is_loaded_as_it_stands_in_the_file(corpus_folder: Path) -> None:
    sample = read_corpus(corpus_folder).samples[0]
    expected, _ = soundfile.read(sample.path, dtype="float32")
    assert np.array_equal(sample.load(), expected)


def test_about_a_twelfth_of_every_split_is_silence(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    for split in SPLITS:
        samples = corpus.of(split)
        silent = sum(sample.label == "silence" for sample in samples)
        assert silent == round((len(samples) - silent) / 11)


def test_silences_of_different_splits_do_not_overlap(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    borders = {"train": (0, 80000), "validation": (80000, 120000), "test": (120000, 160000)}
    silences = [sample for sample in corpus.samples if sample.label == "silence"]
    for sample in silences:
        begin, end = borders[sample.split]
        assert begin <= sample.start
        assert sample.start + 16000 <= end
        assert sample.load().shape == (16000,)
    assert all(len(noise) == 80000 for noise in corpus.noises)


def test_the_fingerprint_is_that_of_the_contents(corpus_folder: Path) -> None:
    before = read_corpus(corpus_folder).fingerprint()
    assert read_corpus(corpus_folder).fingerprint() == before
    path = corpus_folder / "yes" / "train_nohash_0.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    assert read_corpus(corpus_folder).fingerprint() != before


def test_the_fingerprint_does_not_depend_on_the_place(corpus_folder: Path) -> None:
    before = read_corpus(corpus_folder).fingerprint()
    moved = corpus_folder.rename(corpus_folder.parent / "elsewhere")
    assert read_corpus(moved).fingerprint() == before


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_corpus(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "bicompile synthesize" in refused(tmp_path / "nothing")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    assert "manifest.json" in refused(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"speakers": [{}]}', '{"speakers": 3}'])
def test_a_damaged_manifest_is_refused(corpus_folder: Path, text: str) -> None:
    (corpus_folder / "manifest.json").write_text(text)
    assert "damaged" in refused(corpus_folder)


def test_a_missing_clip_is_refused_by_name(corpus_folder: Path) -> None:
    (corpus_folder / "no" / "test_nohash_1.wav").unlink()
    message = refused(corpus_folder)
    assert "lacks 1 of" in message
    assert "test_nohash_1.wav" in message


def test_lists_that_do_not_fit_are_refused(corpus_folder: Path) -> None:
    (corpus_folder / "testing_list.txt").write_text("yes/train_nohash_0.wav\n")
    assert "testing_list.txt" in refused(corpus_folder)


def test_a_corpus_without_test_clips_is_refused(corpus_folder: Path) -> None:
    manifest = json.loads((corpus_folder / "manifest.json").read_text())
    manifest["speakers"] = [e for e in manifest["speakers"] if e["split"] != "test"]
    (corpus_folder / "manifest.json").write_text(json.dumps(manifest))
    (corpus_folder / "testing_list.txt").unlink()
    assert "no clips for test" in refused(corpus_folder)


def test_a_corpus_without_noise_is_refused(corpus_folder: Path) -> None:
    (corpus_folder / "_background_noise_" / "white.wav").unlink()
    assert "_background_noise_" in refused(corpus_folder)
