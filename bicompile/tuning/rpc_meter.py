"""Seconds of boards behind TVM's RPC tracker, as many at once as there are.

A program for arm64 runs on the emulator first, one for this machine in a process here: guard pages
catch what would take a board down. Every board's own results are checked as well.
"""

import encodings.idna  # noqa: F401 - what looks up host names in a thread must not import it there
import re
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from tvm import rpc
from tvm.rpc import base

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import OUTPUT_FILL, DeviceFault
from bicompile.errors import UserError
from bicompile.targets import Target
from bicompile.tuning.bench import Bench
from bicompile.tuning.checked import check_on_emulator
from bicompile.tuning.host_meter import checked_seconds
from bicompile.tuning.meter import GoneError

_ADDRESS = re.compile(r"rpc://(?P<host>[^/:]+):(?P<port>\d{1,5})/(?P<key>[^/\s]+)")
_ANSWER = 5.0  # seconds in which a tracker says that it is one
_FUNCTION = "bicompile_run"
_AFTER = 64  # floats after the output that must stay as they are


class RpcMeter:
    """Seconds of one run on a board: the least of several means of many runs.

    Attributes:
        timeout: seconds after which a trial has failed, with all that it waited for.
        patience: seconds without a board of the key after which there is none.
    """

    unit = "seconds"

    def __init__(
        self, address: str, target: Target, *, timeout: float = 120.0, patience: float = 60.0
    ) -> None:
        """Find the tracker and its boards.

        Raises UserError for an address of another form, a tracker that cannot be reached, and a key
        that no board has.
        """
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise UserError(f"{address!r} is no address of boards: write rpc://HOST:PORT/KEY")
        self._host, self._port, self._key = found["host"], int(found["port"]), found["key"]
        self.timeout, self._patience = timeout, patience
        self._target = target
        _greet(self._host, self._port)
        boards = self._boards()
        self.workers = boards.get(self._key, 0)
        if not self.workers:
            known = ", ".join(sorted(boards)) or "none at all"
            raise UserError(
                f"the tracker {self._host}:{self._port} has no board with the key {self._key!r} "
                f"(keys: {known}): start python -m tvm.exec.rpc_server --tracker "
                f"{self._host}:{self._port} --key {self._key} on the board"
            )
        self.source = f"measured on boards with the key {self._key}"

    def _boards(self) -> Mapping[str, int]:
        """How many boards the tracker has, by key."""
        counts: dict[str, int] = {}
        for server in rpc.connect_tracker(self._host, self._port).summary()["server_info"]:
            key = str(server["key"]).removeprefix("server:")
            counts[key] = counts.get(key, 0) + 1
        return counts

    def measure(self, bench: Bench, executable: Executable) -> float:
        """See Meter; raises GoneError where there is no board any more."""
        if executable.target.arch == "aarch64":
            check_on_emulator(bench, executable)
        elif executable.target.arch == toolchain.this_machine().arch:
            checked_seconds(bench, executable)
        with tempfile.TemporaryDirectory() as folder:
            # Boards keep what they are sent under its name.
            library = Path(folder) / f"bicompile-{uuid4().hex}.so"
            _link(executable, library, Path(folder))
            session = self._session()
            try:
                return _run(session, library, bench, executable)
            finally:
                session.remove(library.name)

    def _session(self) -> Any:
        """A board; waits while all are taken."""
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            try:
                if self._boards().get(self._key):
                    tracker = rpc.connect_tracker(self._host, self._port)
                    tracker._sock.settimeout(self._patience)
                    return tracker.request(
                        self._key, session_timeout=int(self.timeout), max_retry=1
                    )
            except (OSError, RuntimeError):
                pass  # the tracker or the board went away: there may be another
            time.sleep(0.5)
        raise GoneError(
            f"the tracker {self._host}:{self._port} had no board with the key {self._key!r} for "
            f"{self._patience:.0f} seconds; what was measured is kept: run again when there is one"
        )


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


def _run(session: Any, library: Path, bench: Bench, executable: Executable) -> float:
    session.upload(str(library))
    module, device = session.load_module(library.name), session.cpu(0)
    size = executable.output.nbytes // 4
    clean = np.full(4 * (size + _AFTER), OUTPUT_FILL, np.uint8).view(np.float32)
    rows = rpc_array(bench.input, device)
    output = rpc_array(clean, device)
    workspace = rpc_array(np.zeros(max(executable.workspace_bytes // 4, 1), np.float32), device)
    module[_FUNCTION](rows, output, workspace)
    given = output.numpy()
    if given[size:].tobytes() != clean[size:].tobytes():
        raise DeviceFault(f"{executable.entry} wrote past its output")
    bench.check(given[:size].copy())
    timed = module.time_evaluator(_FUNCTION, device, number=1, repeat=5, min_repeat_ms=20)
    return min(map(float, timed(rows, output, workspace).results))


def rpc_array(array: np.ndarray, device: Any) -> Any:
    """A float32 array as a tensor on a board."""
    from tvm.runtime import tensor

    return tensor(array, device)
