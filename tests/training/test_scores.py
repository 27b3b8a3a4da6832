"""Figures of right and wrong answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicompile.training.scores import (
    FEWEST_VOICES,
    accuracies,
    by_engine,
    confusion,
    differences,
    table,
)

ANSWERS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc"), st.sampled_from("xyz")),
    min_size=1,
)


def test_columns_are_all_then_engines_by_name_then_silence() -> None:
    engines = ["tones", "silence", "piper", "tones"]
    assert list(by_engine(engines)) == ["all", "piper", "tones", "silence"]


@given(ANSWERS)
def test_the_accuracy_of_all_is_that_of_the_engines_by_their_clips(
    answers: list[tuple[bool, bool, str, str]],
) -> None:
    engines = [engine for _, _, engine, _ in answers]
    found = accuracies(np.array([right for right, *_ in answers]), engines)
    shares = [engines.count(engine) / len(engines) for engine in list(found)[1:]]
    assert found["all"] == pytest.approx(np.dot(shares, list(found.values())[1:]))


@given(ANSWERS)
def test_a_difference_is_that_of_the_accuracies_in_points(
    answers: list[tuple[bool, bool, str, str]],
) -> None:
    right, reference = (np.array([answer[i] for answer in answers]) for i in (0, 1))
    engines, voices = ([answer[i] for answer in answers] for i in (2, 3))
    mine, its = accuracies(right, engines), accuracies(reference, engines)
    found = differences(right, reference, engines, voices)
    assert list(found) == list(mine)
    for name, difference in found.items():
        assert difference.points == pytest.approx(100 * (mine[name] - its[name]))


def test_equal_answers_differ_by_nothing_at_all() -> None:
    right = np.arange(60) % 3 == 0
    voices = [str(n % 10) for n in range(60)]
    assert differences(right, right, ["e"] * 60, voices)["all"].interval == (0, 0)


def test_the_interval_is_as_wide_as_the_spread_of_voices_makes_it() -> None:
    voices, clips = 80, 15  # a voice gains all of its clips or none
    gains = np.random.default_rng(1).random(voices) < 0.3
    right = np.repeat(gains, clips)
    names = [str(n // clips) for n in range(voices * clips)]
    found = differences(right, np.zeros_like(right), ["e"] * len(right), names)["all"]
    assert found.interval is not None
    error = 100 * gains.std() / np.sqrt(voices)
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert (high + low) / 2 == pytest.approx(found.points, abs=0.2 * error)


def test_few_voices_have_no_interval() -> None:
    right = np.arange(FEWEST_VOICES) == 0
    names = [str(n) for n in range(FEWEST_VOICES)]
    engines = ["e"] * FEWEST_VOICES
    assert differences(right, ~right, engines, names)["all"].interval is not None
    names[0] = names[1]
    assert differences(right, ~right, engines, names)["all"].interval is None


def test_a_voice_of_two_engines_is_two() -> None:
    engines = [f"{n}" for n in range(FEWEST_VOICES)]
    right = np.ones(FEWEST_VOICES, bool)
    found = differences(right, right, engines, ["the same"] * FEWEST_VOICES)
    assert found["all"].interval == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_a_confusion_counts_every_pair(pairs: list[tuple[int, int]]) -> None:
    spoken, heard = np.array(pairs).T
    found = confusion(spoken, heard, 5)
    assert found.shape == (5, 5)
    for row in range(5):
        for column in range(5):
            assert found[row, column] == pairs.count((row, column))


def test_a_table_is_aligned() -> None:
    assert table("what", {"a": {"x": "1", "long": "2.5"}, "bcdef": {"x": "-10", "long": ""}}) == (
        "what     x  long\na        1   2.5\nbcdef  -10      "
    )
