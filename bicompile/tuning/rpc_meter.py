"""Seconds of boards behind TVM's RPC tracker, as many at once as there are.

A program for arm64 runs on the emulator first, one for this machine in a process here: guard pages
catch what would take a board down. Every board's own results are checked as well.
"""

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices.boards import Boards
from bicompile.tuning.bench import Bench
from bicompile.tuning.checked import check_on_emulator
from bicompile.tuning.host_meter import checked_seconds

_MEANS, _MEAN_MS = 5, 20


class RpcMeter:
    """Seconds of one run on a board: the least of several means of many runs."""

    unit = "seconds"

    def __init__(self, boards: Boards) -> None:
        """Measure on these."""
        self._boards = boards
        self.timeout: float | None = boards.timeout
        self.workers = boards.count
        self.source = f"measured on boards with the key {boards.key}"

    def measure(self, bench: Bench, executable: Executable) -> float:
        """See Meter; raises GoneError where there is no board any more."""
        if executable.target.arch == "aarch64":
            check_on_emulator(bench, executable)
        elif executable.target.arch == toolchain.this_machine().arch:
            checked_seconds(bench, executable)
        with self._boards.session().load(executable, bench.input) as loaded:
            bench.check(loaded.output())
            return min(loaded.means(1, _MEANS, _MEAN_MS))
