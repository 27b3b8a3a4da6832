import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arm64_python import Arm64Python
from boards import wait_for_a_board
from command_line import Run
from conftest import A53, CRASHES, NEST
from tvm.rpc.tracker import Tracker

from bicompile.devices.boards import Boards
from bicompile.tuning.rpc_meter import RpcMeter
from bicompile.tuning.tuner import Tuner

SERVE = """
from tvm.rpc.server import PopenRPCServerState
server = PopenRPCServerState("127.0.0.1", tracker_addr=("127.0.0.1", {port}), key="qemu")
print("serving", flush=True)
server.thread.join()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracker with TVM's own server for arm64 behind it, under qemu."""
    python = Arm64Python(tmp_path_factory.mktemp("arm64"))
    tracker = Tracker("127.0.0.1", silent=True)
    board = python.start(SERVE.format(port=tracker.port))
    assert board.stdout is not None
    while "serving" not in (line := board.stdout.readline()):
        assert line, "the server did not start"
    wait_for_a_board(tracker.port)
    yield f"rpc://127.0.0.1:{tracker.port}/qemu"
    board.kill()
    board.communicate()
    tracker.terminate()


@pytest.mark.slow
def test_tvms_own_server_for_arm64_runs_what_is_tuned(
    address: str, tuner: Callable[..., Tuner], tmp_path: Path
) -> None:
    default = tuner(RpcMeter(Boards(address)), A53, 1).jobs[0].search.default
    spoiled: list[object] = []

    def is_first_other(decisions: object) -> bool:
        spoiled.extend([decisions] if decisions != default and not spoiled else [])
        return decisions in spoiled

    made = tuner(RpcMeter(Boards(address)), A53, 4, is_first_other, CRASHES)
    made.run()
    costs = [trial.cost for trial in made.records.trials(NEST, A53)]
    assert [cost is None for cost in costs] == [False, False, False, True]
    assert made.records.source == "measured on boards with the key qemu"


@pytest.mark.slow
def test_compare_times_every_kernel_on_a_board(bicompile: Run, address: str) -> None:
    options = ("--core", "cortex-a53", "--device", address, "--json")
    told = json.loads(bicompile("compare", "--shapes", "256,128,8", *options).out)
    (shape,) = told["shapes"]
    for kernel in shape["kernels"]:
        assert 0 < kernel["seconds"]["low"] <= kernel["seconds"]["median"]
    assert {kernel["kernel"] for kernel in shape["kernels"]} >= {"hand", "default"}
    assert (told["machine"], told["notes"]) == ("a board with the key qemu", [])
