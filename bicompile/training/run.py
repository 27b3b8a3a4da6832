"""Where a training run stands, in memory and in its folder."""

import io
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
from bicompile.training.recipe import PhaseRecipe

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
    how: PhaseRecipe
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
    phases: list[str]
    """Names of all phases, in order."""
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
        known |= {f"{name}.safetensors" for name in self.phases}
        if not record.exists():
            if self.folder.exists() and known & {path.name for path in self.folder.iterdir()}:
                raise UserError(f"{self.folder} holds an unknown run; choose a new or empty folder")
            with atomic_file(record) as path:
                path.write_text(json.dumps(self.identity, indent=1))
            return
        try:
            found = json.loads(record.read_text())
        except ValueError:
            raise UserError(f"{record} is damaged; choose a new or empty folder") from None
        if found != self.identity:
            raise UserError(
                f"{self.folder} holds a run with another recipe or other data; "
                "choose a new or empty folder"
            )

    def checkpoint(self, name: str) -> Path:
        """Where the network of a phase is, once it is finished."""
        return self.folder / f"{name}.safetensors"

    def finished(self, name: str) -> BiFSMNv2 | None:
        """Return the network of a phase, in eval mode, if it is finished."""
        path = self.checkpoint(name)
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
        data = io.BytesIO()
        torch.save(state, data)
        with atomic_file(self.state_path) as path:
            path.write_bytes(data.getbuffer())  # torch would not tell a full disk as such
        with atomic_file(self.folder / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in self._metrics(phase)))

    def saved(self, name: str) -> dict[str, Any] | None:
        """Return the saved state of a phase, on the CPU, if there is one."""
        if not self.state_path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.state_path, map_location="cpu", weights_only=True
            )
            return state if state["name"] == name else None
        except Exception as error:
            raise self._damaged() from error

    def restore(self, phase: Phase, state: dict[str, Any]) -> None:
        """Bring a new phase to where it was saved."""
        try:
            phase.network.load_state_dict(state["network"])
            phase.optimizer.load_state_dict(state["optimizer"])
            for name in PROGRESS:
                setattr(phase, name, state[name])
        except Exception as error:
            raise self._damaged() from error

    def _damaged(self) -> UserError:
        return UserError(f"{self.state_path} is damaged; remove it to begin this phase again")

    def _metrics(self, phase: Phase) -> list[dict[str, Any]]:
        before = self.phases[: self.phases.index(phase.name)]
        earlier = [load_checkpoint(self.checkpoint(name))[1]["history"] for name in before]
        return [line for history in (*earlier, phase.history) for line in history]
