"""Reading an unpacked Speech Commands archive, and refusing what is none."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from archives import TEST, TRAIN, VALIDATION, write_archive

from bicompile.errors import UserError
from bicompile.model.config import KEYWORDS, LABELS, LABELS_12
from bicompile.training.corpus import Corpus, read_corpus
from bicompile.training.loop import train
from bicompile.training.sample import SPLITS
from bicompile.training.speech_commands import split_of


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The thirty words of V1."""
    return write_archive(tmp_path / "v1", LABELS[30])


def counts(corpus: Corpus, split: str) -> dict[str, int]:
    found = [sample.label for sample in corpus.of(split)]
    return {label: found.count(label) for label in found}


def test_the_lists_split_the_clips_and_the_rest_is_for_training(archive: Path) -> None:
    corpus = read_corpus(archive, LABELS[30])
    speakers = {split: {sample.voice for sample in corpus.of(split)} for split in SPLITS}
    assert speakers == {"train": {TRAIN}, "validation": {VALIDATION}, "test": {TEST}}
    assert [len(corpus.of(split)) for split in SPLITS] == [60, 30, 30]
    assert {sample.engine for sample in corpus.samples} == {"recorded"}


def test_a_clip_may_be_listed_for_another_split_than_its_name_says(archive: Path) -> None:
    moved = f"yes/{TRAIN}_nohash_1.wav"
    with (archive / "testing_list.txt").open("a") as file:
        file.write(moved)
    corpus = read_corpus(archive)
    assert archive / moved in {sample.path for sample in corpus.of("test")}
    assert len(corpus.of("train")) == 59 + 5


def test_without_lists_the_names_give_the_same_split(tmp_path: Path, archive: Path) -> None:
    bare = read_corpus(write_archive(tmp_path / "bare", LABELS[30], lists=False))
    assert bare.fingerprint() == read_corpus(archive).fingerprint()
    assert bare.origin == {"format": "speech-commands", "words": 30, "split": "names"}


@pytest.mark.parametrize(
    ("split", "speakers"),
    [  # as the archive's own lists have them
        ("test", "a1533da4 4c7c95de 964e8cfd 6021f08b 5f814c23 e1469561 aa48c94a"),
        ("validation", "52e228e9 3903b558 264f471d dca2797e 50f55535 ec21c46b"),
    ],
)
def test_the_rule_agrees_with_the_published_lists(split: str, speakers: str) -> None:
    assert {split_of(speaker) for speaker in speakers.split()} == {split}


def test_of_many_speakers_a_tenth_each_are_for_validation_and_test() -> None:
    splits = [split_of(f"{number:08x}") for number in range(20_000)]
    for split in ("validation", "test"):
        assert splits.count(split) / len(splits) == pytest.approx(0.1, abs=0.01)


def test_twelve_classes_call_every_other_word_unknown(archive: Path) -> None:
    corpus = read_corpus(archive, LABELS_12)
    # A tenth as many silences as there are clips, and no word is left out.
    expected = {"unknown": 40, "silence": 6, **dict.fromkeys(KEYWORDS, 2)}
    assert counts(corpus, "train") == expected
    expected = {"unknown": 20, "silence": 3, **dict.fromkeys(KEYWORDS, 1)}
    assert counts(corpus, "validation") == counts(corpus, "test") == expected


def test_silence_is_a_second_of_zeros(archive: Path) -> None:
    silences = [s for s in read_corpus(archive).samples if s.label == "silence"]
    assert {sample.engine for sample in silences} == {"silence"}
    for sample in silences:
        assert np.array_equal(sample.load(), np.zeros(16000, np.float32))


def test_training_may_mix_in_all_of_the_background_noise(archive: Path) -> None:
    noises = read_corpus(archive).noises
    assert [noise.shape for noise in noises] == [(160000,), (160000,)]


@pytest.mark.parametrize("classes", [20, 30])
def test_other_label_sets_leave_other_words_out(archive: Path, classes: int) -> None:
    corpus = read_corpus(archive, LABELS[classes])
    assert counts(corpus, "train") == dict.fromkeys(LABELS[classes], 2)
    assert counts(corpus, "test") == dict.fromkeys(LABELS[classes], 1)


def test_v2_has_thirty_five_classes_and_v1_has_not(tmp_path: Path, archive: Path) -> None:
    corpus = read_corpus(write_archive(tmp_path / "v2", LABELS[35]), LABELS[35])
    assert counts(corpus, "train") == dict.fromkeys(LABELS[35], 2)
    assert corpus.origin["words"] == 35
    with pytest.raises(UserError, match="backward, follow, forward, learn, visual") as caught:
        read_corpus(archive, LABELS[35])
    assert "35 labels" in str(caught.value)


@pytest.mark.parametrize(("length", "kept"), [(9000, 9000), (20000, 16000)])
def test_a_shorter_clip_is_followed_by_zeros_and_a_longer_one_cut(
    archive: Path, length: int, kept: int
) -> None:
    path = archive / "yes" / f"{TRAIN}_nohash_0.wav"
    ramp = np.arange(length, dtype=np.int16)
    soundfile.write(path, ramp, 16000)
    (sample,) = (s for s in read_corpus(archive).samples if s.path == path)
    loaded = sample.load()
    assert loaded.shape == (16000,)
    assert np.array_equal(loaded[:kept] * 32768, ramp[:kept])
    assert not loaded[kept:].any()


def test_training_tells_recorded_clips_from_silence(
    archive: Path, tmp_path: Path, recipe_file: Path
) -> None:
    train(archive, tmp_path / "run", recipe=str(recipe_file))
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert list(line["validation"]["0"]) == ["all", "recorded", "silence"]


def refused(folder: Path, labels: tuple[str, ...] = LABELS_12) -> str:
    with pytest.raises(UserError) as caught:
        read_corpus(folder, labels)
    message = str(caught.value)
    assert str(folder) in message
    assert ". " not in message
    return message


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no archive")
    message = refused(tmp_path)
    assert "WORD/*.wav" in message
    assert "manifest.json" in message


def test_the_folder_that_was_meant_is_named(archive: Path) -> None:
    assert f"give {archive}" in refused(archive.parent)


def test_clips_that_do_not_name_their_speaker_are_refused(archive: Path) -> None:
    (archive / "yes" / f"{TRAIN}_nohash_0.wav").rename(archive / "yes" / "me.wav")
    assert "yes/me.wav" in refused(archive)


def test_a_list_that_names_an_absent_clip_is_refused(archive: Path) -> None:
    (archive / "yes" / f"{TEST}_nohash_0.wav").unlink()
    message = refused(archive)
    assert "testing_list.txt names 1 clips" in message
    assert f"yes/{TEST}_nohash_0.wav" in message


def test_one_list_without_the_other_is_refused(archive: Path) -> None:
    (archive / "testing_list.txt").unlink()
    assert "testing_list.txt is missing" in refused(archive)


def test_a_clip_in_both_lists_is_refused(archive: Path) -> None:
    with (archive / "testing_list.txt").open("a") as file:
        file.write(f"yes/{VALIDATION}_nohash_0.wav\n")
    assert "which is in validation_list.txt" in refused(archive)


def test_a_list_that_is_no_text_is_refused(archive: Path) -> None:
    (archive / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    assert "is not a list of clips" in refused(archive)


def test_a_split_that_is_empty_is_refused(archive: Path) -> None:
    (archive / "testing_list.txt").write_text("")
    assert "has no clips for test" in refused(archive)
