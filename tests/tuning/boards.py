"""A tracker of TVM's and a board behind it, on this machine."""

import time

from tvm import rpc
from tvm.rpc import Server
from tvm.rpc.tracker import Tracker
from tvm.support.popen_pool import kill_child_processes

KEY = "board"


def wait_for_a_board(port: int) -> None:
    """Wait until the tracker at a port of this machine knows one."""
    while not rpc.connect_tracker("127.0.0.1", port).summary()["server_info"]:
        time.sleep(0.02)


class Tracked:
    """A tracker and its one board, whose power can be cut."""

    def __init__(self) -> None:
        self._tracker = Tracker("127.0.0.1", silent=True)
        self._server: Server | None = None

    def address(self, key: str = KEY) -> str:
        return f"rpc://127.0.0.1:{self._tracker.port}/{key}"

    def start(self) -> None:
        """Start a board unless there is one, and wait until the tracker knows it."""
        if self._server is None:
            address = ("127.0.0.1", self._tracker.port)
            self._server = Server("127.0.0.1", tracker_addr=address, key=KEY, silent=True)
            wait_for_a_board(self._tracker.port)

    def cut(self) -> None:
        if self._server is not None:
            # Whatever serves a session first, or it would live on without its server.
            kill_child_processes(self._server.proc._proc.pid)
            self._server.terminate()
            self._server = None

    def close(self) -> None:
        self.cut()
        self._tracker.terminate()
