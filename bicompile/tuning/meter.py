"""What a trial is measured with."""

from typing import Protocol

from bicompile.artifact import Executable
from bicompile.tuning.bench import Bench


class Meter(Protocol):
    """Measures candidates.

    Attributes:
        unit: what costs are in: "modelled cycles" or "seconds".
        source: who says so, in words.
        workers: how many candidates it measures at once.
    """

    unit: str
    source: str
    workers: int

    @property
    def timeout(self) -> float | None:
        """Seconds after which a trial has failed; None where it cannot hang."""
        ...

    def measure(self, bench: Bench, executable: Executable) -> float:
        """The cost of one run, after its results were found right.

        Raises UserError otherwise, and GoneError where nothing can be measured any more.
        """
        ...
