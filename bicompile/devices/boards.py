"""Boards behind TVM's RPC tracker: a compiled program as a function of TVM's runtime there."""

import encodings.idna  # noqa: F401 - what looks up host names in a thread must not import it there
import re
import socket
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from tvm import rpc
from tvm.rpc import base
from tvm.runtime import tensor

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import OUTPUT_FILL, DeviceFault, GoneError
from bicompile.errors import UserError

PREFIX = "rpc:"
_ADDRESS = re.compile(r"rpc://(?P<host>[^/:]+):(?P<port>\d{1,5})/(?P<key>[^/\s]+)")
_ANSWER = 5.0  # seconds in which a tracker says that it is one
_FUNCTION = "bicompile_run"
_AFTER = 64  # floats after the output that must stay as they are


class Boards:
    """The boards of one key.

    Attributes:
        key: what their servers were started with.
        count: how many there are, free or not.
        timeout: seconds after which a session ends, whatever it does.
        patience: seconds without a board after which there is none.
    """

    def __init__(self, address: str, *, timeout: float = 120.0, patience: float = 60.0) -> None:
        """Find the tracker and its boards.

        Raises UserError for an address of another form, a tracker that cannot be reached, and a key
        that no board has.
        """
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise UserError(f"{address!r} is no address of boards: write rpc://HOST:PORT/KEY")
        self._host, self._port, self.key = found["host"], int(found["port"]), found["key"]
        self.timeout, self.patience = timeout, patience
        _greet(self._host, self._port)
        boards = self._known()
        self.count = boards.get(self.key, 0)
        if not self.count:
            known = ", ".join(sorted(boards)) or "none at all"
            raise UserError(
                f"the tracker {self._host}:{self._port} has no board with the key {self.key!r} "
                f"(keys: {known}): start python -m tvm.exec.rpc_server --tracker "
                f"{self._host}:{self._port} --key {self.key} on the board"
            )

    def _known(self) -> Mapping[str, int]:
        """How many boards the tracker has, by key."""
        counts: dict[str, int] = {}
        for server in rpc.connect_tracker(self._host, self._port).summary()["server_info"]:
            key = str(server["key"]).removeprefix("server:")
            counts[key] = counts.get(key, 0) + 1
        return counts

    def session(self) -> "Session":
        """One of them, as long as the session lives; waits while all are taken.

        Raises GoneError where there is none any more.
        """
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            try:
                if self._known().get(self.key):
                    tracker = rpc.connect_tracker(self._host, self._port)
                    tracker._sock.settimeout(self.patience)
                    return Session(
                        tracker.request(self.key, session_timeout=int(self.timeout), max_retry=1)
                    )
            except (OSError, RuntimeError):
                pass  # the tracker or the board went away: there may be another
            time.sleep(0.5)
        raise GoneError(
            f"the tracker {self._host}:{self._port} had no board with the key {self.key!r} for "
            f"{self.patience:.0f} seconds; what was measured is kept: run again when there is one"
        )


class Session:
    """A board that is ours alone."""

    def __init__(self, remote: Any) -> None:
        """Take one that the tracker gave."""
        self._remote = remote

    @contextmanager
    def load(self, executable: Executable, x: NDArray[np.float32]) -> Iterator["OnBoard"]:
        """The program there with one input; float32 of any shape."""
        with tempfile.TemporaryDirectory() as folder:
            # Boards keep what they are sent under its name.
            library = Path(folder) / f"bicompile-{uuid4().hex}.so"
            _link(executable, library, Path(folder))
            self._remote.upload(str(library))
        try:
            yield OnBoard(self._remote, library.name, executable, x)
        finally:
            self._remote.remove(library.name)


class OnBoard:
    """A program on a board with one input."""

    def __init__(
        self, remote: Any, library: str, executable: Executable, x: NDArray[np.float32]
    ) -> None:
        """Load the library that was sent, and send the operands."""
        self._module, self._device = remote.load_module(library), remote.cpu(0)
        self._entry = executable.entry
        self._size = executable.output.nbytes // 4
        self._clean = np.full(4 * (self._size + _AFTER), OUTPUT_FILL, np.uint8).view(np.float32)
        workspace = np.zeros(max(executable.workspace_bytes // 4, 1), np.float32)
        operands = (x.reshape(-1), self._clean, workspace)
        self._operands = [tensor(operand, self._device) for operand in operands]

    def output(self) -> NDArray[np.float32]:
        """What one run gives, flat; raises DeviceFault where it writes past its output."""
        self._module[_FUNCTION](*self._operands)
        given: NDArray[np.float32] = self._operands[1].numpy()
        if given[self._size :].tobytes() != self._clean[self._size :].tobytes():
            raise DeviceFault(f"{self._entry} wrote past its output")
        return given[: self._size].copy()

    def means(self, runs: int, repeats: int = 1, at_least_ms: int = 0) -> list[float]:
        """Seconds of one run: means of so many, or of more that take so many milliseconds."""
        timed = self._module.time_evaluator(
            _FUNCTION, self._device, number=runs, repeat=repeats, min_repeat_ms=at_least_ms
        )
        return [float(mean) for mean in timed(*self._operands).results]

    def seconds(self, runs: int) -> float:
        """Of so many runs."""
        return runs * self.means(runs)[0]


def _greet(host: str, port: int) -> None:
    """Raise UserError unless a tracker answers there."""
    try:
        with socket.create_connection((host, port), timeout=_ANSWER) as connection:
            connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            answer = base.recvall(connection, 4)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no tracker answers at {host}:{port} ({error}): start python -m tvm.exec.rpc_tracker "
            "there, or correct the address"
        ) from error
    if struct.unpack("<i", answer)[0] != base.RPC_TRACKER_MAGIC:
        raise UserError(f"what answers at {host}:{port} is no tracker of TVM: correct the address")


def _link(executable: Executable, library: Path, folder: Path) -> None:
    """The object as a shared library that TVM's runtime loads."""
    wrapper, source = folder / "board.o", Path(__file__).with_name("board.c")
    defines: dict[str, str | int] = {"ENTRY": executable.entry}
    toolchain.compile_c(source, wrapper, executable.target, defines)
    toolchain.link_shared(wrapper, library, executable.target, executable.object)
