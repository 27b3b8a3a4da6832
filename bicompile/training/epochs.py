"""The epochs of a phase; stopped anywhere, it goes on.

Everything random in an epoch follows from (seed, phase, epoch), so a state needs no generator: the
network, the optimizer and the number of steps are enough to end exactly as if never stopped.
"""

import math
import platform
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from bicompile.model.checkpoint import save_checkpoint
from bicompile.model.network import BiFSMNv2
from bicompile.training.cache import Split
from bicompile.training.evaluation import accuracy
from bicompile.training.masks import Masks
from bicompile.training.phases import seed_of
from bicompile.training.ranks import Ranks
from bicompile.training.recipe import Recipe
from bicompile.training.run import Loss, Phase, Run
from bicompile.training.stopping import stop_requests

SAVE_SECONDS = 45.0


class _Objective(nn.Module):
    """A loss as a module that has the parameters of its network: what can be made parallel."""

    def __init__(self, network: BiFSMNv2, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.loss(x, labels)


def run_phase(run: Run, plan: Recipe, phase: Phase, splits: dict[str, Split], ranks: Ranks) -> None:
    """Train from where the phase was saved to its last epoch, and write the checkpoint."""
    state = ranks.share(lambda: run.saved(phase.name))
    if state is not None:
        run.restore(phase, state)
    objective = ranks.parallel(_Objective(phase.network, phase.loss))
    steps = math.ceil(len(splits["train"].labels) / plan.batch)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(*columns, TimeRemainingColumn(), disable=not ranks.main)
    with stop_requests(insist=ranks.size == 1) as stop, progress:
        done = phase.epoch * steps + phase.step
        bar = progress.add_task(phase.name, total=steps * phase.how.epochs, completed=done)
        while phase.epoch < phase.how.epochs:
            for text in _run_epoch(run, plan, phase, objective, splits["train"], ranks, stop):
                done = phase.epoch * steps + phase.step
                progress.update(bar, completed=done, description=f"{phase.name} {text}")
            line = ranks.share(lambda: _metrics(phase, splits["validation"], steps))
            phase.history.append(line)
            phase.epoch, phase.step, phase.loss_sum = phase.epoch + 1, 0, 0.0
            ranks.share(lambda: run.save(phase))
            if ranks.main:
                progress.console.print(_describe(line, phase.how.epochs), highlight=False)
            if any(ranks.sum(stop.is_set())):
                raise KeyboardInterrupt
    ranks.share(lambda: _write_checkpoint(run, phase, splits["test"], ranks))


def _run_epoch(
    run: Run,
    plan: Recipe,
    phase: Phase,
    objective: nn.Module,
    split: Split,
    ranks: Ranks,
    stop: threading.Event,
) -> Iterator[str]:
    """Do the steps that are left of an epoch; yields what to show after each."""
    clips = len(split.labels)
    steps = math.ceil(clips / plan.batch)
    generator = torch.Generator()
    generator.manual_seed(seed_of(plan.seed, phase.name, phase.epoch))
    order = torch.randperm(clips, generator=generator).to(ranks.device)
    copy = torch.randint(phase.how.copies, (clips,), generator=generator).to(ranks.device)
    masks = Masks.draw(plan.augmentation, clips, generator, ranks.device)
    phase.network.train()
    started = saved = time.monotonic()
    before = phase.seconds
    while phase.step < steps:
        done, total = phase.epoch * steps + phase.step, phase.how.epochs * steps
        rate = _rate(done, total, phase.how.warm_up)
        for group, peak in zip(phase.optimizer.param_groups, phase.rates, strict=True):
            group["lr"] = peak * rate
        batch = order[phase.step * plan.batch : (phase.step + 1) * plan.batch]
        chosen, weight = ranks.share_of(batch)
        x = masks.apply(split.features[copy[chosen], chosen][:, None], chosen)
        phase.optimizer.zero_grad()
        loss = weight * objective(x, split.labels[chosen])
        old = ranks.main and time.monotonic() - saved > SAVE_SECONDS
        value, stops, olds = ranks.sum(loss.item() / ranks.size, stop.is_set(), old)
        if not math.isfinite(value):
            raise run.not_finite(phase, f"the loss is {value}")
        loss.backward()
        phase.optimizer.step()
        phase.step += 1
        phase.loss_sum += value
        phase.seconds = before + time.monotonic() - started
        if stops or olds:
            ranks.share(lambda: run.save(phase))
            saved = time.monotonic()
        if stops:
            raise KeyboardInterrupt
        yield f"loss {value:.3f} rate {phase.rates[0] * rate:.1e}"


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak rate: a linear rise, then half a cosine down to nothing."""
    rise = round(warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _metrics(phase: Phase, validation: Split, steps: int) -> dict[str, Any]:
    widths = phase.network.config.widths
    return {
        "phase": phase.name,
        "epoch": phase.epoch + 1,
        "loss": phase.loss_sum / steps,
        "rate": phase.optimizer.param_groups[0]["lr"],
        "seconds": round(phase.seconds, 1),
        "validation": {str(width): accuracy(phase.network, validation, width) for width in widths},
    }


def _describe(line: dict[str, Any], epochs: int) -> str:
    shares = ", ".join(f"{100 * found['all']:.1f}" for found in line["validation"].values())
    return (
        f"{line['phase']} epoch {line['epoch']}/{epochs}: loss {line['loss']:.3f}, "
        f"validation {shares} %, {line['seconds']:.0f} s"
    )


def _write_checkpoint(run: Run, phase: Phase, test: Split, ranks: Ranks) -> None:
    """Write the network with what is to be known of its making."""
    widths = phase.network.config.widths
    record = {
        "phase": phase.name,
        **run.identity,
        "history": phase.history,
        "test": {str(width): accuracy(phase.network, test, width) for width in widths},
        "seconds": round(phase.seconds),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("bicompile", "torch", "numpy")}
        | {"python": platform.python_version()},
        "machine": platform.machine(),
        "device": ranks.device.split(":")[0],
        "processes": ranks.size,
        "threads": torch.get_num_threads(),
    }
    save_checkpoint(run.checkpoint(phase.name), phase.network, record)
