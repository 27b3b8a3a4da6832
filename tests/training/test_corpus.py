"""Reading a corpus folder: labels, silences and the fingerprint."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bicompile.errors import UserError
from bicompile.model.config import KEYWORDS, LABELS
from bicompile.training.corpus import read_corpus
from bicompile.training.sample import SPLITS


def test_every_clip_has_its_label_split_engine_and_voice(corpus_folder: Path) -> None:
    spoken = [s for s in read_corpus(corpus_folder).samples if s.engine != "silence"]
    assert len(spoken) == 11 * (4 + 2 + 2)
    for sample in spoken:
        word = sample.path.parent.name
        assert sample.label == (word if word in KEYWORDS else "unknown")
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
        assert silent == (len(samples) - silent) // 11


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


def test_words_without_a_label_are_left_out_when_nothing_is_unknown(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder, (*KEYWORDS, "silence"))
    assert {sample.label for sample in corpus.samples} == {*KEYWORDS, "silence"}


def test_there_is_no_silence_when_it_is_no_label(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder, (*KEYWORDS, "unknown"))
    assert {sample.label for sample in corpus.samples} == {*KEYWORDS, "unknown"}


def test_the_fingerprint_is_that_of_the_contents(corpus_folder: Path) -> None:
    before = read_corpus(corpus_folder).fingerprint()
    assert read_corpus(corpus_folder).fingerprint() == before
    path = corpus_folder / "yes" / "train_nohash_0.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    assert read_corpus(corpus_folder).fingerprint() != before


def test_the_fingerprint_changes_with_the_noise(corpus_folder: Path) -> None:
    labels = ("yes", "no")  # no silence, so that noise is only mixed in
    before = read_corpus(corpus_folder, labels).fingerprint()
    soundfile.write(corpus_folder / "_background_noise_" / "white.wav", np.zeros(160000), 16000)
    assert read_corpus(corpus_folder, labels).fingerprint() != before


def test_the_fingerprint_changes_with_the_labels(corpus_folder: Path) -> None:
    before = read_corpus(corpus_folder, ("yes", "no", "unknown")).fingerprint()
    assert read_corpus(corpus_folder, ("yes", "up", "unknown")).fingerprint() != before


def test_the_fingerprint_does_not_depend_on_the_place(corpus_folder: Path) -> None:
    before = read_corpus(corpus_folder).fingerprint()
    moved = corpus_folder.rename(corpus_folder.parent / "elsewhere")
    assert read_corpus(moved).fingerprint() == before


def test_the_label_sets_have_as_many_words_as_their_number() -> None:
    assert list(LABELS) == [12, 20, 30, 35]
    for count, labels in LABELS.items():
        assert len(set(labels)) == len(labels) == count


def refused(folder: Path, labels: tuple[str, ...] = LABELS[12]) -> str:
    with pytest.raises(UserError) as caught:
        read_corpus(folder, labels)
    message = str(caught.value)
    assert str(folder) in message
    return message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nothing")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path)


def test_labels_that_the_corpus_does_not_have_are_refused(corpus_folder: Path) -> None:
    message = refused(corpus_folder, ("yes", "no", "maybe", "perhaps"))
    assert "no training clips of maybe, perhaps" in message
    assert "4 labels" in message


def test_a_corpus_without_test_clips_is_refused(corpus_folder: Path) -> None:
    manifest = json.loads((corpus_folder / "manifest.json").read_text())
    manifest["speakers"] = [e for e in manifest["speakers"] if e["split"] != "test"]
    (corpus_folder / "manifest.json").write_text(json.dumps(manifest))
    (corpus_folder / "testing_list.txt").unlink()
    assert "no clips for test" in refused(corpus_folder)


def test_a_corpus_without_noise_is_refused(corpus_folder: Path) -> None:
    (corpus_folder / "_background_noise_" / "white.wav").unlink()
    assert "_background_noise_" in refused(corpus_folder)


def test_noise_of_a_few_seconds_is_refused(corpus_folder: Path) -> None:
    path = corpus_folder / "_background_noise_" / "short.wav"
    soundfile.write(path, np.zeros(3 * 16000), 16000)
    assert "short.wav has 3.0 s of noise" in refused(corpus_folder)


def test_unreadable_clips_are_refused_or_left_out_when_asked(corpus_folder: Path) -> None:
    path = corpus_folder / "no" / "test_nohash_1.wav"
    path.write_bytes(b"")
    assert "1 of 89 sound files" in refused(corpus_folder)
    corpus = read_corpus(corpus_folder, skip_unreadable=True)
    assert corpus.unreadable == {path: "empty"}
    assert path not in {sample.path for sample in corpus.samples}
