"""What entries do over and over, once: runs of calls that differ in their constants only.

The same blocks run in every width, and a block is as the one before it. Such a run is a case, and
what a branch does is a list of steps: which case, and where its constants lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

CONSTANTS = "constants"

_LEAST_SAVED = 4
"""Calls; going from case to case takes about the code of so many."""


@dataclass(frozen=True)
class Argument:
    """Where an argument of a call lies.

    Attributes:
        base: CONSTANTS, or what else of the entry it lies in.
        offset: bytes from there.
        parameter: of the case, by index; bytes that a step adds. None where all steps agree.
    """

    base: str
    offset: int
    parameter: int | None = None


@dataclass(frozen=True)
class PlacedCall:
    """A call of a kernel."""

    kernel: str
    arguments: tuple[Argument, ...]


Run = tuple[PlacedCall, ...]


@dataclass(frozen=True)
class Step:
    """One time that a branch goes through a case, by index, with the parameters in bytes."""

    case: int
    parameters: tuple[int, ...]


def find_cases(branches: Sequence[Sequence[Run]]) -> tuple[list[Run], list[list[Step]]]:
    """The cases of all branches and the steps of each, given the runs that stay together.

    One branch that hardly repeats itself is one case.
    """
    joined = _joined(branches)
    cases = _distinct(joined)
    saved = sum(len(run) for runs in joined for run in runs) - sum(map(len, cases))
    if len(branches) == 1 and saved < _LEAST_SAVED:
        joined = [[tuple(call for run in branches[0] for call in run)]]
        cases = _distinct(joined)
    numbers = {shape: number for number, shape in enumerate(cases)}
    rows: list[list[list[int]]] = [[] for _ in cases]
    for runs in joined:
        for run in runs:
            rows[numbers[_shape(run)]].append(_offsets(run))
    columns = [_columns(found) for found in rows]
    told = [iter(values) for _, values in columns]
    steps = [
        [Step(number, next(told[number])) for number in (numbers[_shape(run)] for run in runs)]
        for runs in joined
    ]
    return [_filled(run, found) for run, (found, _) in zip(cases, columns, strict=True)], steps


def _joined(branches: Sequence[Sequence[Run]]) -> list[list[Run]]:
    """The runs, with those in one that follow each other wherever either stands."""
    after: dict[Run | None, set[Run | None]] = {}
    before: dict[Run | None, set[Run | None]] = {}
    for runs in branches:
        shapes = [_shape(run) for run in runs]
        for first, second in zip([None, *shapes], [*shapes, None], strict=True):
            after.setdefault(first, set()).add(second)
            before.setdefault(second, set()).add(first)
    joined: list[list[Run]] = []
    for runs in branches:
        joined.append([])
        last: Run | None = None
        for run in runs:
            shape = _shape(run)
            if last is not None and len(after[last]) == len(before[shape]) == 1:
                joined[-1][-1] += run
            else:
                joined[-1].append(run)
            last = shape
    return joined


def _distinct(branches: Sequence[Sequence[Run]]) -> list[Run]:
    return list(dict.fromkeys(_shape(run) for runs in branches for run in runs))


def _shape(run: Run) -> Run:
    """What does not differ between runs of one case: all but the offsets of constants."""
    return tuple(
        replace(call, arguments=tuple(map(_without_offset, call.arguments))) for call in run
    )


def _without_offset(argument: Argument) -> Argument:
    return replace(argument, offset=0) if argument.base == CONSTANTS else argument


def _offsets(run: Run) -> list[int]:
    return [
        argument.offset for call in run for argument in call.arguments if argument.base == CONSTANTS
    ]


def _columns(
    rows: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, int | None]], list[tuple[int, ...]]]:
    """Of the offsets of constants in every run of a case: what all have in common, and the rest.

    That is for every constant an offset and the parameter it counts from, if any, and for every
    run the values of the parameters. Constants that lie equally far apart in all runs share one.
    """
    found: list[tuple[int, int | None]] = []
    parameters: list[tuple[int, ...]] = []
    for column in zip(*rows, strict=True):
        if len(set(column)) == 1:
            found.append((column[0], None))
            continue
        for number, other in enumerate(parameters):
            apart = {mine - its for mine, its in zip(column, other, strict=True)}
            if len(apart) == 1:
                found.append((apart.pop(), number))
                break
        else:
            found.append((0, len(parameters)))
            parameters.append(column)
    return found, list(zip(*parameters, strict=True)) if parameters else [()] * len(rows)


def _filled(shape: Run, found: Sequence[tuple[int, int | None]]) -> Run:
    """The calls of a case with what `_columns` found of their constants."""
    left = iter(found)
    return tuple(
        replace(
            call,
            arguments=tuple(
                Argument(CONSTANTS, *next(left)) if argument.base == CONSTANTS else argument
                for argument in call.arguments
            ),
        )
        for call in shape
    )
