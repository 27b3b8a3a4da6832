"""Machines that tell seconds: this one, and the boards behind a tracker."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable
from bicompile.devices import DeviceFault, open_device
from bicompile.errors import UserError
from bicompile.targets import Target, find_target
from bicompile.timing import Timer, timer_of

if TYPE_CHECKING:
    from bicompile.devices.boards import Boards

Programs = Mapping[str, tuple[Executable, NDArray[np.float32]]]
"""Programs by name, each with its input, that all give the same."""


@dataclass(frozen=True)
class Machine(ABC):
    """A machine that tells seconds.

    Attributes:
        about: what it is, in words.
        target: what programs are built for.
        notes: what it cannot run, a sentence each.
    """

    about: str
    target: Target
    notes: tuple[str, ...] = ()

    @abstractmethod
    def timers(self, programs: Programs) -> AbstractContextManager[dict[str, Timer]]:
        """A timer of every program, all on one machine, for as long as the context is open."""


class _ThisMachine(Machine):
    @contextmanager
    def timers(self, programs: Programs) -> Iterator[dict[str, Timer]]:
        with ExitStack() as stack:
            yield {
                name: timer_of(stack.enter_context(open_device("host").load(executable)), x)
                for name, (executable, x) in programs.items()
            }


@dataclass(frozen=True)
class _Board(Machine):
    boards: "Boards" = field(kw_only=True)

    @contextmanager
    def timers(self, programs: Programs) -> Iterator[dict[str, Timer]]:
        session = self.boards.session()
        with ExitStack() as stack:
            loaded = {
                name: stack.enter_context(session.load(executable, x))
                for name, (executable, x) in programs.items()
            }
            outputs = {name: program.output() for name, program in loaded.items()}
            first = next(iter(outputs))
            for name, output in outputs.items():
                if not np.array_equal(output, outputs[first]):
                    raise DeviceFault(f"{self.about} gives other results for {name} than {first}")
            yield {name: program.seconds for name, program in loaded.items()}


def open_machine(device: str, target: Target) -> Machine:
    """The machine of `host` or `rpc://HOST:PORT/KEY`, where programs are built for a target.

    Those for this machine are built for it. Raises UserError for a device that tells no seconds,
    and what Boards raises.
    """
    if device.startswith("rpc:"):
        from bicompile.devices.boards import Boards

        boards = Boards(device)
        return _Board(f"a board with the key {boards.key}", target, boards=boards)
    if device != "host":
        raise UserError(
            f"{device} tells no seconds: give --device host or rpc://HOST:PORT/KEY, or leave it out"
        )
    machine = find_target(device)
    if machine.arch == "aarch64":
        return _ThisMachine(machine.about, machine)
    note = f"the hand kernel is arm64 assembly and is not timed: this machine is {machine.arch}"
    return _ThisMachine(machine.about, machine, (note,))
