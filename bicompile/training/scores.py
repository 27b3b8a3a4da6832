"""Right and wrong answers as figures: accuracy by engine, paired differences, confusions.

Needs no torch: answers may come from anything that hears clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Accuracy = dict[str, float]
"""Share of right answers, 0 to 1: under `all`, and under the name of each engine."""

RESAMPLES = 10_000
FEWEST_VOICES = 5


@dataclass(frozen=True)
class Difference:
    """Accuracy above that of another network on the same clips, in points."""

    points: float
    interval: tuple[float, float] | None
    """95 %; None where fewer than `FEWEST_VOICES` spoke: so few say nothing about others."""


def by_engine(engines: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which clips count, bool (n,): under `all`, then each engine by name, `silence` last."""
    made = np.array(engines)
    names = sorted(set(engines), key=lambda name: (name == "silence", name))
    return {"all": np.ones(len(made), bool), **{name: made == name for name in names}}


def accuracies(right: NDArray[np.bool_], engines: Sequence[str]) -> Accuracy:
    """Accuracy of answers that were `right`, bool (n,), to clips of these engines."""
    return {name: float(right[mine].mean()) for name, mine in by_engine(engines).items()}


def differences(
    right: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    engines: Sequence[str],
    voices: Sequence[str],
) -> dict[str, Difference]:
    """Accuracy above that of a `reference`, both bool (n,), by engine as in `accuracies`."""
    gained = right.astype(np.int64) - reference
    speakers = np.array(
        [f"{engine} {voice}" for engine, voice in zip(engines, voices, strict=True)]
    )
    return {
        name: Difference(100 * float(gained[mine].mean()), _interval(gained[mine], speakers[mine]))
        for name, mine in by_engine(engines).items()
    }


def _interval(gained: NDArray[np.int64], voices: NDArray[np.str_]) -> tuple[float, float] | None:
    """Percentile bootstrap of the mean, in points, that draws whole voices.

    Clips of a voice are right or wrong together, so single clips would make it too narrow (the
    cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 3.8).
    """
    names, voice = np.unique(voices, return_inverse=True)
    if len(names) < FEWEST_VOICES:
        return None
    sums = np.bincount(voice, gained)
    counts = np.bincount(voice)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    low, high = np.percentile(100 * (drawn @ sums) / (drawn @ counts), (2.5, 97.5))
    return float(low), float(high)


def confusion(
    spoken: NDArray[np.int64], heard: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Clips by what was spoken (rows) and what was heard (columns), int64 (classes, classes)."""
    pairs = np.bincount(spoken * classes + heard, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def table(title: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """Lines of text: a row for each name, a column for each key; all rows have the same keys."""
    columns = list(next(iter(rows.values())))
    first = max(map(len, (title, *rows)))
    widths = {name: max(len(name), *(len(row[name]) for row in rows.values())) for name in columns}
    lines = [f"{title:{first}}  " + "  ".join(f"{name:>{widths[name]}}" for name in columns)]
    for name, row in rows.items():
        lines.append(f"{name:{first}}  " + "  ".join(f"{row[c]:>{widths[c]}}" for c in columns))
    return "\n".join(lines)
