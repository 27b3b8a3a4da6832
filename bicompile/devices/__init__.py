"""Where an artifact runs: one small protocol, and the devices that speak it.

    with open_device("emulator").load(artifact.executable) as loaded:
        result = loaded.run(inputs)

Every device fills output and workspace with FILL before each run, so that code that relies on
zeros, or leaves an output unwritten (it is then NaN), shows.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable, TensorSpec
from bicompile.errors import UserError

OUTPUT_FILL = 0xFF  # as float32: NaN
WORKSPACE_FILL = 0xAA
DEVICE_NAMES = ("emulator", "qemu", "host")


class DeviceFault(UserError):  # noqa: N818 - a fault is what processors call it
    """The program did what the entry's contract forbids: it touched memory that is not its own,
    met an instruction the processor lacks, or returned with registers changed.
    """


class GoneError(UserError):
    """There is no device any more; what was to run says nothing of its program."""


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a batch of n runs gave.

    Attributes:
        outputs: float32, (n, *output.shape).
        workspaces: uint8, (n, workspace_bytes), each as its run left it; None unless asked for.
        instructions: instructions executed by each run, exact; None where not counted.
        profile: instructions by symbol of the object, summed over the batch; None where not
            counted. An instruction belongs to the last symbol at or before it.
        stack_bytes: deepest stack of any run, bytes; None where not measured.
        seconds: wall time on this machine inside the entry, summed over the batch; None on
            devices whose time means nothing.
    """

    outputs: NDArray[np.float32]
    workspaces: NDArray[np.uint8] | None = None
    instructions: tuple[int, ...] | None = None
    profile: Mapping[str, int] | None = None
    stack_bytes: int | None = None
    seconds: float | None = None


class Loaded(ABC):
    """A program that is ready on a device; a context manager that frees what it holds."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @abstractmethod
    def run(self, inputs: NDArray[np.float32], keep_workspace: bool = False) -> RunResult:
        """Run once for every input of a float32 batch (n, *input.shape), each from a clean state.

        Raises UserError for another shape or dtype, DeviceFault when the program breaks the
        entry's contract in a way this device notices.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the device holds; the program cannot run any more."""


class Device(Protocol):
    """A place to run programs."""

    def load(self, executable: Executable) -> Loaded:
        """Make a program ready; raises UserError when it is built for another processor."""
        ...


def open_device(name: str) -> Device:
    """The device called `name`; raises UserError naming the known ones and the nearest."""
    # Imported here so that one device does not need what another is made of.
    match name:
        case "emulator":
            from bicompile.devices.emulator import Emulator

            return Emulator()
        case "qemu":
            from bicompile.devices.qemu import Qemu

            return Qemu()
        case "host":
            from bicompile.devices.host import Host

            return Host()
    near = difflib.get_close_matches(name.lower(), DEVICE_NAMES, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"unknown device {name!r}: known devices are {', '.join(DEVICE_NAMES)}{hint}")


def check_arm64(executable: Executable, device: str) -> None:
    """Raise UserError when the program is not built for arm64."""
    target = executable.target
    if target.arch != "aarch64":
        raise UserError(
            f"{executable.object} was built for {target.name} ({target.arch}), {device} runs "
            "arm64; compile with --target cortex-a53"
        )


def check_inputs(inputs: NDArray[np.float32], spec: TensorSpec) -> NDArray[np.float32]:
    """The batch in C order; raises UserError unless it is float32 of shape (n, *spec.shape)."""
    if inputs.dtype != np.float32 or inputs.shape[1:] != spec.shape or inputs.ndim == 0:
        accepted = ", ".join(map(str, ("n", *spec.shape)))
        raise UserError(
            f"the input {spec.name} has {inputs.dtype} of shape {inputs.shape}; "
            f"the program takes a float32 batch of shape ({accepted})"
        )
    return np.ascontiguousarray(inputs)
