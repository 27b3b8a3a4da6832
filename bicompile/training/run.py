"""Where a training run stands, in memory and in its folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bicompile.errors import UserError
from bicompile.files import atomic_file
from bicompile.model.checkpoint import load_checkpoint
from bicompile.model.network import BiFSMNv2

Loss = Callable[[Tensor, Tensor], Tensor]
"""From features (N, 1, mels, frames) and labels (N,) to a scalar."""

PROGRESS = ("epoch", "step", "loss_sum", "seconds", "history")


@dataclass
class Phase:
    """One network on its way, and where on the way it is."""

    name: str
    network: BiFSMNv2
    loss: Loss
    optimizer: torch.optim.Optimizer
    rates: list[float]
    """Peak learning rate of each parameter group."""
    epochs: int
    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    loss_sum: float = 0.0
    """Sum of the losses of these steps."""
    seconds: float = 0.0
    """Time spent in this phase, over all calls."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of every finished epoch."""


@dataclass(frozen=True)
class Run:
    """The output folder of a run."""

    folder: Path
    identity: dict[str, Any]
    """The recipe and the data: what a run is a function of."""

    @property
    def state_path(self) -> Path:
        """Where an unfinished phase is kept."""
        return self.folder / "state.pt"

    def check(self) -> None:
        """Raise UserError when the folder belongs to another run, or cannot be used."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; choose a folder for the run")
        record = self.folder / "run.json"
        known = {"run.json", "state.pt", "metrics.jsonl"}
        known |= {"teacher.safetensors", "student.safetensors"}
        if not record.exists():
            if self.folder.exists() and known & {path.name for path in self.folder.iterdir()}:
                raise UserError(f"{self.folder} holds an unknown run; choose a new or empty folder")
            with atomic_file(record) as path:
                path.write_text(json.dumps(self.identity, indent=1))
        elif json.loads(record.read_text()) != self.identity:
            raise UserError(
                f"{self.folder} holds a run with another recipe or other data; "
                "choose a new or empty folder"
            )

    def finished(self, name: str) -> BiFSMNv2 | None:
        """Return the network of a finished phase."""
        path = self.folder / f"{name}.safetensors"
        return load_checkpoint(path)[0] if path.exists() else None

    def not_finite(self, phase: Phase, what: str) -> UserError:
        """Return what to say when training has left the finite numbers."""
        kept = f"the last good state is {self.state_path}"
        return UserError(
            f"{what} at step {phase.step} of epoch {phase.epoch + 1} of the {phase.name}; "
            f"{kept if self.state_path.exists() else 'no state was saved yet'}, "
            "train with a lower rate in another folder"
        )

    def save(self, phase: Phase) -> None:
        """Write the state, then the metrics that belong to it.

        Raises UserError when a weight is no longer finite, and keeps the state before; also when
        the place cannot be written or the disk is full.
        """
        for name, value in phase.network.state_dict().items():
            if not value.isfinite().all():
                raise self.not_finite(phase, f"{name} is no longer finite")
        state = {name: getattr(phase, name) for name in ("name", *PROGRESS)}
        state |= {"network": phase.network.state_dict(), "optimizer": phase.optimizer.state_dict()}
        with atomic_file(self.state_path) as path:
            torch.save(state, path)
        with atomic_file(self.folder / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in self._metrics(phase)))

    def restore(self, phase: Phase) -> None:
        """Bring a new phase to where its saved state was, if there is one."""
        if not self.state_path.exists():
            return
        try:
            state = torch.load(self.state_path, weights_only=True)
            if state["name"] != phase.name:
                return
            phase.network.load_state_dict(state["network"])
            phase.optimizer.load_state_dict(state["optimizer"])
            for name in PROGRESS:
                setattr(phase, name, state[name])
        except Exception as error:
            raise UserError(
                f"{self.state_path} is damaged; remove it to begin this phase again"
            ) from error

    def _metrics(self, phase: Phase) -> list[dict[str, Any]]:
        before = self.folder / "teacher.safetensors"
        earlier = load_checkpoint(before)[1]["history"] if phase.name == "student" else []
        return [*earlier, *phase.history]
