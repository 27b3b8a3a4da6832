"""The training loop: a float teacher, then the binary student; stopped anywhere, it goes on.

Everything random in an epoch follows from (seed, phase, epoch), so a state needs no generator: the
network, the optimizer and the number of steps are enough to end exactly as if never stopped.
"""

import json
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

from bicompile.errors import UserError
from bicompile.model.binarizer import DualScale
from bicompile.model.checkpoint import save_checkpoint
from bicompile.model.layers import Layer
from bicompile.model.network import BiFSMNv2, start_from
from bicompile.training.cache import Split, load_features
from bicompile.training.corpus import read_corpus
from bicompile.training.distillation import student_loss
from bicompile.training.evaluation import accuracy, print_accuracies
from bicompile.training.recipe import Recipe, load_recipe
from bicompile.training.run import Phase, Run

SAVE_SECONDS = 45.0
WARM_UP = 0.1  # share of the steps in which the rate rises


def train(data: Path, out: Path, *, recipe: str) -> None:
    """Train the teacher, then the student, and report test accuracy for each width and engine.

    `out` receives `teacher.safetensors`, `student.safetensors`, `metrics.jsonl` (a line per epoch)
    and, while training, `state.pt`. The same call goes on from there; a finished run is only
    reported. Raises UserError for bad data, recipe or output folder, and when the loss is no longer
    a finite number; KeyboardInterrupt after Ctrl-C, when the state has been saved.
    """
    plan = load_recipe(recipe)
    corpus = read_corpus(data)
    if corpus.labels != plan.network.labels:
        raise UserError(f"recipe {recipe} has other labels than the corpus {data}")
    facts = {"recipe": plan.to_json(), "data": corpus.fingerprint(), "corpus": corpus.origin}
    identity = json.loads(json.dumps(facts))  # as it will be read again: lists, not tuples
    run = Run(out, identity)
    run.check()
    splits = load_features(corpus, copies=plan.copies, seed=plan.seed)
    teacher = run.finished("teacher") or _train_teacher(run, plan, splits)
    student = run.finished("student") or _train_student(run, plan, splits, teacher)
    run.state_path.unlink(missing_ok=True)
    rows = {"teacher": accuracy(teacher, splits["test"], teacher.config.widths[0])}
    for width in student.config.widths:
        rows[f"student, width {width}"] = accuracy(student, splits["test"], width)
    print_accuracies(rows)


def _train_teacher(run: Run, plan: Recipe, splits: dict[str, Split]) -> BiFSMNv2:
    torch.manual_seed(plan.seed)
    config = replace(plan.network, binary=False, widths=(min(plan.network.widths),))
    network = BiFSMNv2(config)

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), labels)

    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    rates = [plan.teacher.rate]
    phase = Phase("teacher", network, loss, optimizer, rates, plan.teacher.epochs)
    return _run_phase(run, plan, phase, splits)


def _train_student(run: Run, plan: Recipe, splits: dict[str, Split], teacher: BiFSMNv2) -> BiFSMNv2:
    torch.manual_seed(plan.seed + 1)
    network = BiFSMNv2(plan.network)
    start_from(network, teacher)
    teacher.eval()
    how = plan.student

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return student_loss(
            network,
            teacher,
            x,
            labels,
            width_weights=how.width_weights,
            distillation=how.distillation,
        )

    slow = _slow_parameters(network)
    slow_ids = {id(parameter) for parameter in slow}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in slow_ids]
    optimizer = torch.optim.Adam([{"params": rest}, {"params": slow}], fused=True)
    rates = [how.rate, how.rate * how.slow_rate]
    phase = Phase("student", network, loss, optimizer, rates, how.epochs)
    return _run_phase(run, plan, phase, splits)


def _slow_parameters(network: BiFSMNv2) -> list[nn.Parameter]:
    """Thresholds, shifts and alphas: a small step in them moves many bits at once."""
    slow: list[nn.Parameter] = []
    for module in network.modules():
        if isinstance(module, DualScale):
            slow += module.parameters()
        elif isinstance(module, Layer) and module.binary:
            slow.append(module.weight_alpha)
    return slow


def _run_phase(run: Run, plan: Recipe, phase: Phase, splits: dict[str, Split]) -> BiFSMNv2:
    """Train to the last epoch, and write the checkpoint."""
    run.restore(phase)
    steps = math.ceil(len(splits["train"].labels) / plan.batch)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with _stop_requests() as stop, Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(phase.name, total=steps * phase.epochs)
        while phase.epoch < phase.epochs:
            for text in _run_epoch(run, plan, phase, splits["train"], steps, stop):
                done = phase.epoch * steps + phase.step
                progress.update(bar, completed=done, description=f"{phase.name} {text}")
            line = _finish_epoch(phase, splits["validation"], steps)
            run.save(phase)
            progress.console.print(_describe(line, phase.epochs), highlight=False)
            if stop.is_set():
                raise KeyboardInterrupt
    widths = phase.network.config.widths
    record = {
        "phase": phase.name,
        **run.identity,
        "history": phase.history,
        "test": {str(width): accuracy(phase.network, splits["test"], width) for width in widths},
        "seconds": round(phase.seconds),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("bicompile", "torch", "numpy")}
        | {"python": platform.python_version()},
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    save_checkpoint(run.folder / f"{phase.name}.safetensors", phase.network, record)
    return phase.network


def _run_epoch(
    run: Run, plan: Recipe, phase: Phase, split: Split, steps: int, stop: threading.Event
) -> Iterator[str]:
    """Do the steps that are left of an epoch; yields what to show after each."""
    generator = torch.Generator()
    generator.manual_seed(1_000_000 * plan.seed + 2 * phase.epoch + (phase.name == "student"))
    copies, clips = split.features.shape[:2]
    order = torch.randperm(clips, generator=generator)
    copy = torch.randint(copies, (clips,), generator=generator)
    phase.network.train()
    started = saved = time.monotonic()
    before = phase.seconds
    while phase.step < steps:
        rate = _rate(phase.epoch * steps + phase.step, steps * phase.epochs)
        for group, peak in zip(phase.optimizer.param_groups, phase.rates, strict=True):
            group["lr"] = peak * rate
        chosen = order[phase.step * plan.batch : (phase.step + 1) * plan.batch]
        x = split.features[copy[chosen], chosen][:, None]
        phase.optimizer.zero_grad()
        loss = phase.loss(x, split.labels[chosen])
        value = loss.item()
        if not math.isfinite(value):
            raise run.not_finite(phase, f"the loss is {value}")
        loss.backward()  # type: ignore[no-untyped-call]
        phase.optimizer.step()
        phase.step += 1
        phase.loss_sum += value
        now = time.monotonic()
        phase.seconds = before + now - started
        if stop.is_set() or now - saved > SAVE_SECONDS:
            run.save(phase)
            saved = now
        if stop.is_set():
            raise KeyboardInterrupt
        yield f"loss {value:.3f} rate {phase.rates[0] * rate:.1e}"


def _rate(step: int, steps: int) -> float:
    """Share of the peak rate: a linear rise, then half a cosine down to nothing."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _finish_epoch(phase: Phase, validation: Split, steps: int) -> dict[str, Any]:
    widths = phase.network.config.widths
    line = {
        "phase": phase.name,
        "epoch": phase.epoch + 1,
        "loss": phase.loss_sum / steps,
        "rate": phase.optimizer.param_groups[0]["lr"],
        "seconds": round(phase.seconds, 1),
        "validation": {str(width): accuracy(phase.network, validation, width) for width in widths},
    }
    phase.history.append(line)
    phase.epoch, phase.step, phase.loss_sum = phase.epoch + 1, 0, 0.0
    return line


def _describe(line: dict[str, Any], epochs: int) -> str:
    shares = ", ".join(f"{100 * found['all']:.1f}" for found in line["validation"].values())
    return (
        f"{line['phase']} epoch {line['epoch']}/{epochs}: loss {line['loss']:.3f}, "
        f"validation {shares} %, {line['seconds']:.0f} s"
    )


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that the loop looks at between steps.

    A step is never left half done. A second Ctrl-C stops at once.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def request(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    before = {
        int(number): signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
