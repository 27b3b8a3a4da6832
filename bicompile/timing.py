"""Seconds of several programs on one machine, taken in turns so that all meet the same weather."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.devices import Loaded

_WARM_UP = 0.1  # seconds
_ROUND = 0.005  # seconds of a program in one round, at least
_MOST_RUNS = 10_000
ROUNDS = 30


@dataclass(frozen=True)
class Seconds:
    """Seconds of one run, over ROUNDS means of `runs` runs each.

    Attributes:
        median: the middle of the means.
        low: the first quartile.
        high: the third quartile.
        runs: how many runs are one mean.
        warm_up: runs before the first round.
    """

    median: float
    low: float
    high: float
    runs: int
    warm_up: int


Timer = Callable[[int], float]
"""Runs a program so many times; gives the seconds of all."""


def time_in_turns(programs: Mapping[str, Timer]) -> dict[str, Seconds]:
    """Time programs of one machine."""
    sizes: dict[str, int] = {}
    warm_ups: dict[str, int] = {}
    for name, timer in programs.items():
        runs, seconds, each = 0, 0.0, 1
        while seconds < _WARM_UP and runs < _MOST_RUNS:
            seconds += timer(each)
            runs += each
            each = min(2 * each, _MOST_RUNS)
        warm_ups[name] = runs
        sizes[name] = min(max(math.ceil(_ROUND * runs / seconds), 1), _MOST_RUNS)
    means: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, timer in programs.items():
            means[name].append(timer(sizes[name]) / sizes[name])
    found = {}
    for name, taken in means.items():
        low, median, high = np.quantile(taken, [0.25, 0.5, 0.75]).tolist()
        found[name] = Seconds(median, low, high, sizes[name], warm_ups[name])
    return found


def timer_of(loaded: Loaded, x: NDArray[np.float32]) -> Timer:
    """Times a program of a device that tells seconds, with one input: float32 of its shape."""

    def timed(runs: int) -> float:
        seconds = loaded.run(np.broadcast_to(x, (runs, *x.shape))).seconds
        assert seconds is not None, "the device tells no seconds"
        return seconds

    return timed
