"""The training loop: one command does all, and a stopped run ends as one that never was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bicompile.errors import UserError
from bicompile.model.checkpoint import load_checkpoint
from bicompile.training import epochs, results
from bicompile.training.cache import Split
from bicompile.training.loop import train
from bicompile.training.run import Phase

STEPS = 3  # of an epoch: 44 words and 4 silences in batches of 16
PHASES = ("teacher", "student", "narrowed", "settled", "twin1")


class Killed(BaseException):
    """Stands for the end of the process between two steps."""


@pytest.fixture
def corpus_folder(whole: Path) -> Path:
    return whole.parent / "corpus"


@pytest.fixture(autouse=True)
def same_features_and_no_plots(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save time: the corpus is always the same, and plots are drawn for `whole` only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(whole.parent / "cache"))
    monkeypatch.setattr(results, "write_plots", lambda *_: None)


def at_step(number: int, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do `action` before a step, counted from 0 over all phases."""
    original, count = epochs._rate, 0

    def rate(step: int, steps: int, warm_up: float) -> float:
        nonlocal count
        count += 1
        if count == number + 1:
            action()
        return original(step, steps, warm_up)

    monkeypatch.setattr(epochs, "_rate", rate)


def kill() -> None:
    raise Killed


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if name != "seconds"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    for name in PHASES:
        ours, theirs = (load_checkpoint(run / f"{name}.safetensors") for run in (one, other))
        for key, value in ours[0].state_dict().items():
            assert torch.equal(value, theirs[0].state_dict()[key]), key
        assert ours[1]["test"] == theirs[1]["test"]
    assert metrics(one) == metrics(other)


def test_one_call_leaves_every_network_and_their_record(whole: Path, recipe_file: Path) -> None:
    names = {"run.json", "metrics.jsonl", *(f"{phase}.safetensors" for phase in PHASES)}
    names |= {path.name for path in whole.glob("*.png")}
    assert {path.name for path in whole.iterdir()} == names
    teacher, _ = load_checkpoint(whole / "teacher.safetensors")
    student, record = load_checkpoint(whole / "student.safetensors")
    assert not teacher.config.binary
    assert student.config.binary
    assert student.config.widths == (0, 1)
    assert record["recipe"]["seed"] == 3
    assert record["corpus"]["seed"] == 7
    assert len(record["data"]) == 16
    assert set(record["test"]) == {"0", "1"}
    assert set(record["test"]["0"]) == {"all", "tones", "silence"}
    assert set(record["versions"]) == {"bicompile", "torch", "numpy", "python"}
    lines = [(line["phase"], line["epoch"]) for line in metrics(whole)]
    assert lines == [(phase, epoch) for phase in PHASES for epoch in (1, 2)]
    assert record["history"][0]["validation"].keys() == {"0", "1"}


def test_the_settled_student_goes_on_from_the_narrowed_one(whole: Path) -> None:
    narrowed, _ = load_checkpoint(whole / "narrowed.safetensors")
    settled, record = load_checkpoint(whole / "settled.safetensors")
    assert record["phase"] == "settled"
    assert settled.config == replace(narrowed.config, settled=True)
    before, after = narrowed.linear.weight, settled.linear.weight
    assert 0 < (after - before).abs().max() < 0.1


def test_the_narrowed_student_goes_on_from_one_of_two_bits_everywhere(whole: Path) -> None:
    student, _ = load_checkpoint(whole / "student.safetensors")
    narrowed, record = load_checkpoint(whole / "narrowed.safetensors")
    assert record["phase"] == "narrowed"
    assert student.config.one_bit == ()
    assert narrowed.config == replace(student.config, one_bit=("linear", "blocks.*.expand"))
    before, after = student.linear.weight, narrowed.linear.weight
    assert 0 < (after - before).abs().max() < 0.2


@pytest.mark.parametrize("step", [0, 4, 6, 12, 17, 18, 23, 29])
def test_a_killed_run_ends_as_one_that_never_was(
    whole: Path,
    corpus_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "SAVE_SECONDS", -1.0)
        at_step(step, kill, patch)
        with pytest.raises(Killed):
            train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert not (tmp_path / "run" / "twin1.safetensors").exists()
    train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert_same_run(tmp_path / "run", whole)


def test_a_run_killed_long_after_its_last_state_goes_on_from_there(
    whole: Path,
    corpus_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        at_step(STEPS + 2, kill, patch)
        with pytest.raises(Killed):
            train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert len(metrics(tmp_path / "run")) == 1
    train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_finishes_the_step_and_saves_it(
    whole: Path,
    corpus_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(STEPS + 1, lambda: os.kill(os.getpid(), number), patch)
        with pytest.raises(KeyboardInterrupt):
            train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert signal.getsignal(number) == before
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 2)
    train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert_same_run(tmp_path / "run", whole)


def test_a_stop_request_after_the_last_step_of_a_phase_stops_too(
    whole: Path,
    corpus_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = epochs._metrics

    def metrics_of(phase: Phase, validation: Split, steps: int) -> dict[str, Any]:
        if phase.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(phase, validation, steps)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "_metrics", metrics_of)
        with pytest.raises(KeyboardInterrupt):
            train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert len(metrics(tmp_path / "run")) == 2
    train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    assert_same_run(tmp_path / "run", whole)


def test_a_finished_run_is_only_reported(
    whole: Path,
    corpus_folder: Path,
    recipe_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (whole / "student.safetensors").read_bytes()
    capsys.readouterr()
    train(corpus_folder, whole, recipe=str(recipe_file))
    assert "student, width 1" in capsys.readouterr().out
    assert (whole / "student.safetensors").read_bytes() == before


def test_a_loss_that_is_no_number_stops_with_a_sentence(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("rate = 1e-2", "rate = 1e30"))
    with pytest.raises(UserError, match=r"of the teacher; .*lower rate"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))


def test_a_loss_that_is_no_number_leaves_the_last_good_state(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = epochs._rate

    def rate(step: int, steps: int, warm_up: float) -> float:
        return original(step, steps, warm_up) if step < STEPS else float("nan")

    monkeypatch.setattr(epochs, "_rate", rate)
    with pytest.raises(UserError, match=r"step 1 of epoch 2 .*run/state\.pt"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(value.isfinite().all() for value in state["network"].values())


def test_weights_that_are_no_numbers_are_never_saved(
    corpus_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epochs, "SAVE_SECONDS", -1.0)
    recipe_file.write_text(recipe_file.read_text().replace("rate = 1e-2", "rate = 1e39"))
    with pytest.raises(UserError, match="teacher"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    path = tmp_path / "run" / "state.pt"
    if path.exists():
        network = torch.load(path, weights_only=True)["network"]
        assert all(value.isfinite().all() for value in network.values())


def test_a_folder_with_another_run_is_refused(
    whole: Path, corpus_folder: Path, recipe_file: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(UserError, match="another recipe or other data"):
        train(corpus_folder, whole, recipe=str(recipe_file))


def test_a_folder_with_a_damaged_record_is_refused(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))


def test_an_output_that_is_a_file_is_refused(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="is a file"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))


def test_a_damaged_state_is_refused_by_name(
    corpus_folder: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(STEPS + 1, kill, patch)
        with pytest.raises(Killed):
            train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))
    (tmp_path / "run" / "state.pt").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        train(corpus_folder, tmp_path / "run", recipe=str(recipe_file))


@pytest.mark.slow
def test_a_process_killed_with_signal_9_goes_on(
    whole: Path, corpus_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["train", str(corpus_folder), "-o", str(run), "--recipe", str(recipe_file)]
    program = "from bicompile.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", program, *command], env=environment) as process:
        while process.poll() is None and not (run / "state.pt").exists():
            time.sleep(0.01)
        process.kill()
    subprocess.run([sys.executable, "-c", program, *command], env=environment, check=True)
    assert_same_run(run, whole)
