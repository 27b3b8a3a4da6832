"""Listing a folder that `bicompile synthesize` wrote, and refusing a damaged one."""

from pathlib import Path

import pytest

from bicompile.errors import UserError
from bicompile.training.corpus import read_corpus


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_corpus(folder)
    message = str(caught.value)
    assert str(folder) in message
    return message


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
