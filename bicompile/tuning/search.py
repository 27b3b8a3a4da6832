"""The search: which decisions of a nest to try next.

The default comes first, so that what is found is never slower. Then half of the trials change one
decision of one of the best so far, and half are drawn from all. What was tried before, in this run
or in one before, is not tried again.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from bicompile.schedules.decisions import Decisions, from_json, to_json

_PARENTS = 4
"""Of so many of the best one is changed."""

_ATTEMPTS = 64

_MOST_FAILURES = 3
"""Of the default, which nothing can be compared with until it passed."""


class Search:
    """A search over the spaces of one nest (see decisions.spaces)."""

    def __init__(self, spaces: Mapping[str, Mapping[str, Sequence[int]]], seed: int = 0) -> None:
        """Search from the defaults of the first kernel."""
        self._spaces = spaces
        self._sizes = [prod(len(values) for values in of.values()) for of in spaces.values()]
        self._default = next(self._all())
        self._tried: dict[Decisions, float | None] = {}
        self._failures = 0
        self._random = random.Random(seed)

    @property
    def default(self) -> Decisions:
        """What is decided where nobody tuned."""
        return self._default

    @property
    def size(self) -> int:
        """How many different decisions there are."""
        return sum(self._sizes)

    def tell(self, decisions: Decisions, cost: float | None) -> None:
        """Note what a trial cost; None where it failed. The default is then tried again."""
        self._tried[decisions] = cost
        if decisions == self.default and cost is None:
            self._failures += 1
            if self._failures < _MOST_FAILURES:
                del self._tried[decisions]

    def next(self) -> Decisions | None:
        """What to try now; None where everything was tried or is under way.

        Also None where the default failed again and again.
        """
        found = self._propose()
        if found is not None:
            self._tried[found] = None
        return found

    def _propose(self) -> Decisions | None:
        if self.default not in self._tried:
            return self.default
        if self._failures >= _MOST_FAILURES and self._tried[self.default] is None:
            return None
        for _ in range(_ATTEMPTS):
            drawn = self._changed() if self._random.random() < 0.5 else self._drawn()
            if drawn not in self._tried:
                return drawn
        left = [decisions for decisions in self._all() if decisions not in self._tried]
        return self._random.choice(left) if left else None

    def _all(self) -> Iterator[Decisions]:
        for kernel, of in self._spaces.items():
            for chosen in product(*of.values()):
                yield _made(kernel, dict(zip(of, chosen, strict=True)))

    def _drawn(self) -> Decisions:
        """One of all, each as likely as any other."""
        (kernel,) = self._random.choices(list(self._spaces), self._sizes)
        of = self._spaces[kernel]
        return _made(kernel, {name: self._random.choice(values) for name, values in of.items()})

    def _changed(self) -> Decisions:
        """One of the best with one decision changed."""
        passed = [(cost, at) for at, cost in enumerate(self._tried.values()) if cost is not None]
        if not passed:
            return self._drawn()
        _, at = self._random.choice(sorted(passed)[:_PARENTS])
        parent = to_json(list(self._tried)[at])
        of = self._spaces[parent["kernel"]]
        name = self._random.choice(list(of))
        return from_json({**parent, name: self._random.choice(of[name])})


def _made(kernel: str, chosen: Mapping[str, int]) -> Decisions:
    return from_json({"kernel": kernel, **chosen})
