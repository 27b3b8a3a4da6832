"""Who speaks: persons and whole engines held out, and how each word is said."""

from collections import Counter

import numpy as np
import pytest

from bicompile.errors import UserError
from bicompile.training.speakers import PERSONS, Speaker, draw_takes, speakers, split_variants

PERSON = {
    "kal16": "kal",
    "kal_diphone": "kal",
    "slt": "slt",
    "cmu_us_slt_arctic_hts": "slt",
}
"""The person behind a voice, where two voices have the same."""


def everyone() -> list[Speaker]:
    try:
        return speakers()
    except UserError as error:
        pytest.skip(str(error))


def clips() -> Counter[tuple[str, str]]:
    """How many clips there are of each engine in each split."""
    counts: Counter[tuple[str, str]] = Counter()
    for speaker in everyone():
        counts[speaker.engine, speaker.split] += 10 * speaker.takes + speaker.others
    return counts


def test_a_person_is_heard_in_one_split_alone() -> None:
    splits: dict[str, set[str]] = {}
    for (_engine, voice), split in PERSONS.items():
        splits.setdefault(PERSON.get(voice, voice), set()).add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_a_whole_engine_is_heard_in_the_test_alone() -> None:
    assert {split for (engine, _), split in PERSONS.items() if engine == "piper"} == {"test"}


def test_every_split_hears_persons() -> None:
    assert set(PERSONS.values()) == {"train", "validation", "test"}


def test_there_are_19_thousand_clips_and_most_are_of_espeak_ng() -> None:
    counts = clips()
    assert counts.total() >= 19_000
    espeak = sum(count for (engine, _), count in counts.items() if engine == "espeak-ng")
    assert espeak > counts.total() / 2


def test_every_engine_of_the_test_says_enough_for_a_figure() -> None:
    tested = {engine: count for (engine, split), count in clips().items() if split == "test"}
    assert 1200 <= sum(tested.values()) <= 1600
    assert set(tested) == {"espeak-ng", "flite", "festival", "piper"}
    assert min(tested.values()) >= 150


def test_speakers_have_different_file_names() -> None:
    found = everyone()
    assert len({speaker.identity for speaker in found}) == len(found)


def test_a_voice_of_many_stays_near_its_manner_and_one_of_few_does_not() -> None:
    def spread(engine: str, voice: str) -> float:
        speaker = Speaker(engine, voice, "train", 1, 0)
        takes, _tracts = draw_takes(speaker, ["yes"] * 200, np.random.default_rng(0))
        return float(np.std([take.speed for take in takes]))

    assert spread("espeak-ng", "en-us+f2") < 0.8 * spread("flite", "rms")


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
