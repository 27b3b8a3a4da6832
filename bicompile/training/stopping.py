"""Ctrl-C and SIGTERM as a question that the loop asks between steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests(*, insist: bool) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that a step is never left half done.

    With `insist` a second one stops at once. Without, it says nothing new: torchrun passes on what
    a terminal has already sent to every process.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def request(number: int, _frame: object) -> None:
        stop.set()
        if insist:
            signal.signal(number, before[number])

    before = {
        int(number): signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
