"""Several processes train one network: under torchrun, on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bicompile.model.checkpoint import load_checkpoint
from bicompile.training.ranks import Ranks

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def command(corpus: Path, run: Path, recipe: Path | str) -> list[str]:
    arguments = ("train", corpus, "-o", run, "--recipe", recipe)
    return [*TORCHRUN, "-m", "bicompile", *map(str, arguments)]


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@given(clips=st.integers(1, 40), size=st.integers(1, 8))
def test_the_shares_of_a_batch_weigh_as_much_as_the_batch(clips: int, size: int) -> None:
    batch = torch.randperm(clips)
    shares = [Ranks(rank=rank, size=size).share_of(batch) for rank in range(size)]
    assert all(len(mine) > 0 for mine, _ in shares)
    taken = torch.cat([mine for mine, weight in shares if weight > 0])
    assert torch.equal(taken.sort().values, torch.arange(clips))
    values = torch.rand(clips, dtype=torch.float64)
    mean = sum(weight * values[mine].mean() for mine, weight in shares) / size
    torch.testing.assert_close(mean, values.mean())


def test_gradients_of_two_processes_are_those_of_the_whole_batch() -> None:
    script = Path(__file__).with_name("two_ranks.py")
    ended = finish([*TORCHRUN, str(script)])
    assert ended.returncode == 0, ended.stderr


def test_two_processes_train_and_one_of_them_writes_and_prints(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    text = recipe_file.read_text().replace("epochs = 2", "epochs = 1")
    recipe_file.write_text(text.replace("twins = [1]", "twins = []"))
    run = tmp_path / "run"
    ended = finish(command(corpus_folder, run, recipe_file))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("teacher epoch 1/1") == 1
    assert ended.stdout.count("student, width 1") == 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["teacher", "student", "narrowed", "settled"]
    _, record = load_checkpoint(run / "student.safetensors")
    assert (record["processes"], record["device"]) == (2, "cpu")


@pytest.mark.slow
def test_two_killed_processes_go_on_and_end_as_two_that_never_were(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("epochs = 2", "epochs = 30"))
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert finish(command(corpus_folder, whole, recipe_file)).returncode == 0
    with subprocess.Popen(
        command(corpus_folder, run, recipe_file), start_new_session=True
    ) as process:
        while process.poll() is None and not (run / "state.pt").exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (run / "twin1.safetensors").exists()
    assert finish(command(corpus_folder, run, recipe_file)).returncode == 0
    for name in ("teacher", "student", "twin1"):
        ours, theirs = (load_checkpoint(each / f"{name}.safetensors")[0] for each in (run, whole))
        for key, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key


@pytest.mark.slow
def test_a_refusal_is_told_by_one_process(corpus_folder: Path, tmp_path: Path) -> None:
    ended = finish(command(corpus_folder, tmp_path / "run", "nonsense"))
    assert ended.returncode != 0
    assert ended.stderr.count("bicompile: ") == 1
    assert not (tmp_path / "run").exists()
