"""Reading every sound file once: what is let through, left out, or refused."""

import struct
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
from archives import CLIPS
from hypothesis import given
from hypothesis import strategies as st

from bicompile.errors import UserError
from bicompile.training.scan import describe, format_of, scan

GOOD = next((CLIPS / "yes").glob("*.wav")).read_bytes()


def write(folder: Path, **contents: bytes) -> list[Path]:
    for name, content in contents.items():
        (folder / f"{name}.wav").write_bytes(content)
    return [folder / f"{name}.wav" for name in contents]


def test_good_files_have_their_digest(tmp_path: Path) -> None:
    (path,) = write(tmp_path, good=GOOD)
    assert scan(tmp_path, [path], skip_unreadable=False) == ({path: sha256(GOOD).digest()}, {})


UNREADABLE = {
    "empty": (b"", "empty"),
    "text": (b"not a sound at all", "not a PCM WAV"),
    "header": (GOOD[:20], "cut short"),
    "half": (GOOD[:20000], "cut short"),
    "nothing": (GOOD[:40] + struct.pack("<I", 0), "no samples"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = UNREADABLE[name]
    good, bad = write(tmp_path, good=GOOD, bad=content)
    with pytest.raises(UserError, match="1 of 2 sound files") as caught:
        scan(tmp_path, [good, bad], skip_unreadable=False)
    assert f"{bad} ({reason}" in str(caught.value)
    assert "--skip-unreadable" in str(caught.value)


def test_unreadable_files_are_left_out_when_asked(tmp_path: Path) -> None:
    good, bad = write(tmp_path, good=GOOD, bad=b"")
    digests, unreadable = scan(tmp_path, [good, bad], skip_unreadable=True)
    assert list(digests) == [good]
    assert unreadable == {bad: "empty"}


def test_a_folder_in_the_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "folder.wav"
    path.mkdir()
    assert scan(tmp_path, [path], skip_unreadable=True) == ({}, {path: "Is a directory"})


def test_three_unreadable_files_are_named_and_the_rest_counted() -> None:
    unreadable = {Path(f"{number}.wav"): "empty" for number in range(7)}
    assert describe(unreadable) == "0.wav (empty), 1.wav (empty), 2.wav (empty) and 4 more"


@pytest.mark.parametrize(
    ("shape", "rate", "subtype", "said"),
    [
        ((8000,), 8000, "PCM_16", "1 channels of 16 bits at 8000 Hz"),
        ((16000, 2), 16000, "PCM_16", "2 channels of 16 bits at 16000 Hz"),
        ((16000,), 16000, "PCM_24", "1 channels of 24 bits at 16000 Hz"),
    ],
)
def test_another_format_is_refused_by_name_even_when_skipping(
    tmp_path: Path, shape: tuple[int, ...], rate: int, subtype: str, said: str
) -> None:
    path = tmp_path / "other.wav"
    soundfile.write(path, np.zeros(shape), rate, subtype=subtype)
    with pytest.raises(UserError, match=said) as caught:
        scan(tmp_path, [path], skip_unreadable=True)
    assert str(path) in str(caught.value)


def test_samples_that_are_not_integers_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "float.wav"
    soundfile.write(path, np.zeros(16000), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="not a PCM WAV"):
        scan(tmp_path, [path], skip_unreadable=False)


@given(st.integers(0, 43), st.binary(min_size=1, max_size=8))
def test_whatever_a_header_holds_is_told_or_let_through(where: int, damage: bytes) -> None:
    data = GOOD[:where] + damage + GOOD[where + len(damage) :]
    with suppress(ValueError):
        channels, bits, _rate = format_of(data)
        assert min(channels, bits) > 0
