"""Seconds of this machine: every candidate is a process of its own, its buffers guarded."""

import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import OUTPUT_FILL, DeviceFault
from bicompile.errors import UserError
from bicompile.targets import Target
from bicompile.tuning.bench import Bench

_TIMEOUT = 30.0  # seconds for what takes a tenth of one


class HostMeter:
    """Seconds of one run on this machine: the least of several means of many runs.

    A candidate that writes outside its buffers meets a guard page and takes down its own process.
    """

    unit = "seconds"
    workers = 1
    timeout = None

    def __init__(self, target: Target) -> None:
        """Raise UserError for a target of another architecture."""
        machine = toolchain.this_machine()
        if target.arch != machine.arch:
            raise UserError(
                f"{target.name} is {target.arch}, this machine is {machine.arch}: give "
                "--device emulator or rpc://HOST:PORT/KEY"
            )
        self.source = f"measured on {target.about}"

    def measure(self, bench: Bench, executable: Executable) -> float:
        """See Meter; raises DeviceFault where the process did not end well."""
        return checked_seconds(bench, executable)


def checked_seconds(bench: Bench, executable: Executable) -> float:
    """Seconds of one run in a process of its own, after its results were found right.

    Raises UserError for wrong results, DeviceFault where the process did not end well.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "timer"
        defines: dict[str, str | int] = {
            "ENTRY": executable.entry,
            "INPUT_BYTES": executable.input.nbytes,
            "OUTPUT_BYTES": executable.output.nbytes,
            "WORKSPACE_BYTES": executable.workspace_bytes,
            "OUTPUT_FILL": OUTPUT_FILL,
        }
        timer, source = Path(folder) / "timer.o", Path(__file__).with_name("timer.c")
        toolchain.compile_c(source, timer, executable.target, defines)
        toolchain.link_executable([timer, executable.object], program, executable.target)
        given = _output_of(program, bench.input.tobytes(), folder)
    size = executable.output.nbytes
    if len(given) != size + 8:
        raise DeviceFault(f"{executable.entry} gave {len(given)} bytes, not {size + 8}")
    bench.check(np.frombuffer(given[:size], np.float32))
    return int(np.frombuffer(given[size:], np.int64)[0]) * 1e-12


def _output_of(program: Path, given: bytes, folder: str) -> bytes:
    try:
        done = subprocess.run(
            [program], input=given, capture_output=True, cwd=folder, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceFault(f"it did not end in {_TIMEOUT:.0f} seconds") from error
    if done.returncode < 0:
        raise DeviceFault(f"it was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        raise DeviceFault(f"it ended with status {done.returncode}")
    return done.stdout
