"""qemu-aarch64: an emulator that shares nothing with Unicorn's set-up, to check it against.

The object is linked with runner.c to a program of its own and a whole batch goes through one
process. Each buffer ends at a guard page here too, but qemu only tells that one was touched.
"""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import (
    OUTPUT_FILL,
    WORKSPACE_FILL,
    DeviceFault,
    Loaded,
    RunResult,
    check_arm64,
    check_inputs,
)
from bicompile.errors import UserError


class Qemu:
    """The program qemu-aarch64 of the package qemu-user."""

    def load(self, executable: Executable) -> "QemuProgram":
        """Link the program; raises UserError without qemu-aarch64 or for another processor."""
        check_arm64(executable, "qemu")
        if shutil.which("qemu-aarch64") is None:
            raise UserError("qemu-aarch64 is not installed: apt-get install qemu-user")
        return QemuProgram(executable)


class QemuProgram(Loaded):
    """A linked program in a temporary folder."""

    def __init__(self, executable: Executable) -> None:
        """Compile the runner for the program's shapes and link both."""
        self._executable = executable
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._program = folder / "program"
        defines: dict[str, str | int] = {
            "ENTRY": executable.entry,
            "INPUT_BYTES": executable.input.nbytes,
            "OUTPUT_BYTES": executable.output.nbytes,
            "WORKSPACE_BYTES": executable.workspace_bytes,
            "OUTPUT_FILL": OUTPUT_FILL,
            "WORKSPACE_FILL": WORKSPACE_FILL,
        }
        if executable.width is not None:
            defines["WIDTH"] = executable.width
        runner, source = folder / "runner.o", Path(__file__).with_name("runner.c")
        toolchain.compile_c(source, runner, executable.target, defines)
        objects = [runner, executable.object]
        toolchain.link_executable(objects, self._program, executable.target)

    def close(self) -> None:
        """Remove the program."""
        self._folder.cleanup()

    def run(self, inputs: NDArray[np.float32], keep_workspace: bool = False) -> RunResult:
        """See Loaded.run; gives neither counts nor seconds."""
        output = self._executable.output
        batch = check_inputs(inputs, self._executable.input)
        workspace = self._executable.workspace_bytes if keep_workspace else 0
        given = self._process(bytes([keep_workspace]) + batch.tobytes(), len(batch))
        rows = np.frombuffer(given, np.uint8).reshape(len(batch), output.nbytes + workspace)
        outputs = rows[:, : output.nbytes].copy().view("<f4")
        return RunResult(
            outputs=outputs.reshape(len(batch), *output.shape),
            workspaces=rows[:, output.nbytes :].copy() if keep_workspace else None,
        )

    def _process(self, given: bytes, runs: int) -> bytes:
        """Send a batch through one process; every run's output (and workspace), in order."""
        executable = self._executable
        size = executable.output.nbytes + given[0] * executable.workspace_bytes
        # A crash leaves its core in the temporary folder, not where the user is.
        cpu = executable.target.emulated_cpu or "max"
        done = subprocess.run(
            ["qemu-aarch64", "-cpu", cpu, self._program],
            input=given,
            capture_output=True,
            cwd=self._folder.name,
            check=False,
        )
        if done.returncode == 0 and len(done.stdout) == runs * size:
            return done.stdout
        if done.returncode < 0:
            how = f"was killed by {signal.Signals(-done.returncode).name}"
        else:
            lines = done.stderr.decode(errors="replace").splitlines()
            how = f"ended with status {done.returncode}" + (f" ({lines[-1]})" if lines else "")
        raise DeviceFault(
            f"{executable.entry} {how} in run {len(done.stdout) // size + 1} of {runs} under "
            "qemu; run it on the emulator, which says where"
        )
