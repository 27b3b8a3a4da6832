import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boards import KEY, Tracked
from command_line import Run, refused
from conftest import COMPUTES_NOTHING, CRASHES, NEST, WRITES_PAST_ITS_OUTPUT

from bicompile.devices import GoneError
from bicompile.devices.boards import Boards, Session
from bicompile.targets import find_target
from bicompile.tuning.rpc_meter import RpcMeter
from bicompile.tuning.tuner import LOG, Tuner

HOST = find_target("host")
TUNE = ("tune", "--shapes", "128,16,2", "--target", "host", "--records")

Make = Callable[..., Tuner]


@pytest.fixture(scope="module")
def _boards() -> Iterator[Tracked]:
    found = Tracked()
    yield found
    found.close()


@pytest.fixture
def here(_boards: Tracked) -> Tracked:
    _boards.start()
    return _boards


def meter(here: Tracked) -> RpcMeter:
    return RpcMeter(Boards(here.address(), patience=10))


def test_a_board_measures_seconds(here: Tracked, tuner: Make) -> None:
    made = tuner(meter(here), HOST, 2)
    made.run()
    costs = [trial.cost for trial in made.records.trials(NEST, HOST)]
    assert len(costs) == 2
    assert all(cost is not None and 0 < cost < 1e-3 for cost in costs)


@pytest.mark.parametrize("body", [CRASHES, WRITES_PAST_ITS_OUTPUT, COMPUTES_NOTHING])
def test_what_would_take_a_board_down_never_gets_there(
    here: Tracked, tuner: Make, body: str
) -> None:
    default = tuner(meter(here), HOST, 1).jobs[0].search.default
    made = tuner(meter(here), HOST, 3, lambda decisions: decisions != default, body)
    made.run()
    costs = [trial.cost for trial in made.records.trials(NEST, HOST)]
    assert [cost is None for cost in costs] == [False, True, True]
    assert len((made.records.folder / LOG).read_text().splitlines()) == 2
    assert meter(here).workers == 1


class Cut(Boards):
    """The power of the board is cut in the second trial; then there is another board."""

    here: Tracked
    trials = 0

    def session(self) -> Session:
        session = super().session()
        self.trials += 1
        if self.trials == 2:
            self.here.cut()
            self.here.start()
        return session


def test_a_board_that_dies_in_a_trial_fails_it_and_tuning_goes_on(
    here: Tracked, tuner: Make
) -> None:
    dying = Cut(here.address())
    dying.here = here
    made = tuner(RpcMeter(dying), HOST, 3)
    made.run()
    costs = [trial.cost for trial in made.records.trials(NEST, HOST)]
    assert [cost is None for cost in costs] == [False, False, True]


def test_a_key_without_a_board_is_refused(here: Tracked, bicompile: Run, tmp_path: Path) -> None:
    ended = bicompile(*TUNE, tmp_path / "records", "--device", here.address("raspberry"))
    refused(ended, "has no board with the key 'raspberry' (keys: board)", "--key raspberry")
    assert not (tmp_path / "records").exists()


def test_when_the_last_board_goes_what_was_measured_is_kept(here: Tracked, tuner: Make) -> None:
    made = tuner(RpcMeter(Boards(here.address(), patience=1)), HOST, 3)
    made.changed = lambda job: here.cut() if job.done else None
    with pytest.raises(GoneError, match=f"had no board with the key '{KEY}' for 1 seconds"):
        made.run()
    assert [trial.cost is None for trial in made.records.trials(NEST, HOST)] == [False]


def test_a_tracker_that_is_not_there_is_refused(bicompile: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = bicompile(*TUNE, tmp_path / "records", "--device", f"rpc://127.0.0.1:{port}/{KEY}")
    refused(ended, f"no tracker answers at 127.0.0.1:{port}", "tvm.exec.rpc_tracker")


def test_what_answers_and_is_no_tracker_is_refused(bicompile: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        threading.Thread(target=answer, daemon=True).start()
        address = f"rpc://127.0.0.1:{other.getsockname()[1]}/{KEY}"
        refused(bicompile(*TUNE, tmp_path / "records", "--device", address), "is no tracker of TVM")


@pytest.mark.parametrize("device", ["rpc://127.0.0.1/board", "rpc://127.0.0.1:9190", "rpc:board"])
def test_an_address_of_another_form_is_refused(bicompile: Run, tmp_path: Path, device: str) -> None:
    ended = bicompile(*TUNE, tmp_path / "records", "--device", device)
    refused(ended, f"{device!r} is no address of boards: write rpc://HOST:PORT/KEY")


def test_an_unknown_device_is_refused(bicompile: Run, tmp_path: Path) -> None:
    ended = bicompile(*TUNE, tmp_path / "records", "--device", "fpga")
    refused(ended, "unknown device 'fpga': give emulator, host or rpc://HOST:PORT/KEY")
