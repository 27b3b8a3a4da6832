"""This machine itself: the object as a shared library in this process, the only device with time.

Nothing is under guard: a program that touches memory that is not its own may end the process.
Programs for this machine's processor come from the target `host`.
"""

import _ctypes
import ctypes
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import (
    OUTPUT_FILL,
    WORKSPACE_FILL,
    Loaded,
    RunResult,
    check_inputs,
)
from bicompile.errors import UserError
from bicompile.targets import Target, machine_arch

_NEEDS = {"x86-64-v3": {"avx2", "bmi2", "fma"}}
"""Of a target's processor, what Linux calls the features that not every machine has."""


def runs_here(target: Target) -> bool:
    """Whether this machine can run what is built for a target."""
    return target.arch == machine_arch() and not _missing(target)


def _missing(target: Target) -> set[str]:
    """Features of the target that this machine does not have, as far as it tells."""
    needed, told = _NEEDS.get(target.cpu, set()), Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if needed and told.is_file() else []
    has = next((line for line in lines if line.startswith("flags")), None)
    return needed - set(has.split()) if has is not None else set()


def _aligned(size: int) -> NDArray[np.uint8]:
    """`size` bytes at a multiple of 64."""
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


class Host:
    """The processor that this runs on."""

    def load(self, executable: Executable) -> "HostProgram":
        """Link and load the program; raises UserError when it is for another architecture."""
        target, machine = executable.target, toolchain.this_machine()
        if target.arch != machine.arch:
            raise UserError(
                f"{executable.object} was built for {target.name} ({target.arch}), this machine "
                f"is {machine.arch}; run it on the emulator, or compile with --target host"
            )
        if missing := _missing(target):
            raise UserError(
                f"{executable.object} was built for {target.name}, and this machine has "
                f"no {', '.join(sorted(missing))}; compile with --target host"
            )
        return HostProgram(executable)


class HostProgram(Loaded):
    """A program loaded into this process."""

    def __init__(self, executable: Executable) -> None:
        """Link the shared library and load it."""
        self._executable = executable
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.so"
            toolchain.link_shared(executable.object, path, executable.target)
            self._library = ctypes.CDLL(str(path))
        self._entry = self._library[executable.entry]
        self._width = () if executable.width is None else (executable.width,)
        self._entry.argtypes = [*(ctypes.c_int for _ in self._width), *[ctypes.c_void_p] * 3]
        self._entry.restype = None

    def close(self) -> None:
        """Unload the library; the program must not be run afterwards."""
        _ctypes.dlclose(self._library._handle)

    def run(self, inputs: NDArray[np.float32], keep_workspace: bool = False) -> RunResult:
        """See Loaded.run; gives the seconds spent inside the entry."""
        executable = self._executable
        batch = check_inputs(inputs, executable.input)
        outputs = np.empty((len(batch), *executable.output.shape), np.float32)
        workspaces = np.empty((len(batch), executable.workspace_bytes), np.uint8)
        source = _aligned(executable.input.nbytes)
        result = _aligned(executable.output.nbytes)
        workspace = _aligned(executable.workspace_bytes)
        pointers = [memory.ctypes.data for memory in (source, result, workspace)]
        nanoseconds = 0
        for index, sample in enumerate(batch):
            source[:] = sample.reshape(-1).view(np.uint8)
            result[:] = OUTPUT_FILL
            workspace[:] = WORKSPACE_FILL
            start = time.perf_counter_ns()
            self._entry(*self._width, *pointers)
            nanoseconds += time.perf_counter_ns() - start
            outputs[index] = result.view(np.float32).reshape(executable.output.shape)
            if keep_workspace:
                workspaces[index] = workspace
        return RunResult(
            outputs=outputs,
            workspaces=workspaces if keep_workspace else None,
            seconds=nanoseconds / 1e9,
        )
