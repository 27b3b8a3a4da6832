"""The feature cache: what it holds, and when it is used."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from bicompile.errors import UserError
from bicompile.features import log_mel
from bicompile.training import cache
from bicompile.training.cache import cache_folder, load_features
from bicompile.training.corpus import read_corpus


def test_the_first_copy_is_the_clip_itself(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    splits = load_features(corpus, copies=2, seed=0)
    assert splits["train"].features.shape[0] == 2
    assert splits["test"].features.shape[0] == 1
    for split, made in splits.items():
        for number, sample in enumerate(corpus.of(split)):
            expected = log_mel(sample.load())[0, 0]
            assert np.abs(made.features[0, number].numpy() - expected).max() < 1e-3
            assert corpus.labels[made.labels[number]] == sample.label
            assert made.engines[number] == sample.engine


def test_other_copies_are_changed(corpus_folder: Path) -> None:
    made = load_features(read_corpus(corpus_folder), copies=3, seed=0)["train"].features
    changed = (made[0] != made[1]).flatten(1).any(1).float().mean()
    assert changed > 0.7
    assert not torch.equal(made[1], made[2])


def test_a_second_call_computes_nothing(
    corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = read_corpus(corpus_folder)
    first = load_features(corpus, copies=2, seed=0)

    def fail(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(cache.log_mel, "LogMel", fail)
    second = load_features(corpus, copies=2, seed=0)
    assert torch.equal(first["train"].features, second["train"].features)


def test_a_damaged_cache_is_computed_again(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    first = load_features(corpus, copies=1, seed=0)
    (path,) = cache_folder().iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    second = load_features(corpus, copies=1, seed=0)
    assert torch.equal(first["train"].features, second["train"].features)


def test_a_cache_of_other_arrays_is_computed_again(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    first = load_features(corpus, copies=1, seed=0)
    (path,) = cache_folder().iterdir()
    save_file({"train": torch.zeros(3)}, path)
    second = load_features(corpus, copies=1, seed=0)
    assert torch.equal(first["test"].features, second["test"].features)


def test_anything_that_shapes_the_features_makes_another_cache(
    corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(copies: int = 1, seed: int = 0) -> None:
        load_features(read_corpus(corpus_folder), copies=copies, seed=seed)

    load()
    load(seed=1)
    load(copies=2)
    soundfile.write(corpus_folder / "no" / "train_nohash_0.wav", np.zeros(16000), 16000)
    load()
    monkeypatch.setattr(cache, "version", lambda name: f"another {name}")
    load()
    assert len(list(cache_folder().iterdir())) == 5


@pytest.mark.parametrize("disk", [64], indirect=True)
def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(
    corpus_folder: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    with pytest.raises(UserError, match="the disk is full") as caught:
        load_features(read_corpus(corpus_folder), copies=1, seed=0)
    assert "XDG_CACHE_HOME" in str(caught.value)
    assert not list((disk / "bicompile").iterdir())
