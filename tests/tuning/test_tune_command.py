import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import COMMAND, Run, refused

from bicompile.records import TRIALS

TUNE = ("tune", "--target", "cortex-a53", "--shapes", "128,16,2", "--records")


def trials(records: Path) -> list[str]:
    path = records / TRIALS
    return path.read_text().splitlines() if path.is_file() else []


def test_ctrl_c_keeps_every_trial_and_the_same_command_goes_on(
    bicompile: Run, tmp_path: Path
) -> None:
    command = list(map(str, (*COMMAND, *TUNE, tmp_path)))
    running = subprocess.Popen([*command, "--trials", "5000"], stderr=subprocess.PIPE, text=True)
    try:
        while len(trials(tmp_path)) < 3:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, said) == (130, "bicompile: stopped; what was finished is kept\n")
    kept = trials(tmp_path)
    again = bicompile(*TUNE, tmp_path, "--trials", len(kept) + 2)
    assert again.status == 0, again.err
    assert f"{len(kept) + 2} trials in {tmp_path}" in again.out
    assert trials(tmp_path)[:-2] == kept


def test_tuning_as_json_has_these_keys(bicompile: Run, tmp_path: Path) -> None:
    told = json.loads(bicompile(*TUNE, tmp_path, "--trials", 2, "--json").out)
    (kernel,) = told.pop("kernels")
    assert told == {
        "records": str(tmp_path),
        "unit": "modelled cycles",
        "source": "the in-order model of cortex-a53 and cortex-a55",
    }
    assert kernel.keys() == {
        "kernel",
        "layer",
        "default",
        "best",
        "decisions",
        "trials",
        "failed",
    }
    assert (kernel["kernel"], kernel["trials"], kernel["failed"]) == ("128,16,2", 2, 0)
    assert kernel["best"] <= kernel["default"]


def test_compare_sets_the_tuned_kernel_beside_the_others(bicompile: Run, tmp_path: Path) -> None:
    bicompile(*TUNE, tmp_path, "--trials", 8)
    options = ("--records", tmp_path, "--core", "cortex-a53")
    ended = bicompile("compare", "--shapes", "128,16,2", "128,16,3", *options, "--json")
    tuned, untuned = json.loads(ended.out)["shapes"]
    hand, default, best = tuned["kernels"]
    assert (hand["kernel"], default["kernel"], best["kernel"]) == ("hand", "default", "tuned")
    assert best["exact"]
    assert best["modelled_cycles"]["cortex-a53"] <= default["modelled_cycles"]["cortex-a53"]
    assert [kernel["kernel"] for kernel in untuned["kernels"]] == ["hand", "default"]
    assert untuned["untuned"] == "there is no record of it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("a.onnx", "b.onnx"), "give one model, not 2; shapes come after --shapes"),
        (("a.onnx",), "a.onnx"),
        (("--shapes", "128,16"), "'128,16' is no shape"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    bicompile: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    where = ("--target", "cortex-a53", "--records", tmp_path / "records")
    ended = bicompile("tune", *options, *where)
    assert ended.status == 2
    assert said in ended.err
    assert not (tmp_path / "records").exists()


def test_records_where_nothing_can_be_written_are_refused(bicompile: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(bicompile(*TUNE, tmp_path / "file" / "records"), str(tmp_path / "file"))
