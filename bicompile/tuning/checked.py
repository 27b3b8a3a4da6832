"""A run on the emulator whose results are right: where every program for arm64 runs first."""

from bicompile.artifact import Executable
from bicompile.cost.trace import Trace, trace_of
from bicompile.devices.emulator import Emulator
from bicompile.tuning.bench import Bench


def check_on_emulator(bench: Bench, executable: Executable) -> None:
    """Raise UserError for wrong results, DeviceFault for an access to what is not its own."""
    with Emulator().load(executable) as loaded:
        bench.check(loaded.run(bench.input[None]).outputs[0])


def checked_trace(bench: Bench, executable: Executable) -> Trace:
    """The trace of one run after the same check."""
    with Emulator().load(executable) as loaded:
        bench.check(loaded.run(bench.input[None]).outputs[0])
        return trace_of(loaded, bench.input)
