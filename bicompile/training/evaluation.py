"""Answers of torch networks on a split: accuracy, as a table and as plots."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bicompile.model.network import BiFSMNv2
from bicompile.training import plots
from bicompile.training.cache import Split
from bicompile.training.scores import Accuracy, accuracies, table

BATCH = 512


@torch.no_grad()
def answers(network: BiFSMNv2, features: Tensor, width: int) -> NDArray[np.int64]:
    """What one width hears in clips, (N, mels, frames) → int64 (N,) indices into its labels.

    Leaves the network in eval mode.
    """
    network.eval()
    device = next(network.parameters()).device
    heard = [
        network(batch[:, None].to(device), width).argmax(1).cpu()
        for batch in torch.split(features, BATCH)
    ]
    found: NDArray[np.int64] = torch.cat(heard).numpy()
    return found


def accuracy(network: BiFSMNv2, split: Split, width: int) -> Accuracy:
    """Evaluate one width on the clips as they are; leaves the network in eval mode."""
    right = answers(network, split.features[0], width) == split.labels.cpu().numpy()
    return accuracies(right, split.engines)


def print_accuracies(rows: Mapping[str, Accuracy]) -> None:
    """Print a table with a row for each network and a column for each engine, in per cent."""
    texts = {
        name: {column: f"{100 * share:.2f}" for column, share in row.items()}
        for name, row in rows.items()
    }
    print(table("test accuracy, %", texts))


def write_plots(folder: Path, networks: Mapping[str, BiFSMNv2], test: Split) -> None:
    """Write what `folder/metrics.jsonl` and the test clips say of a run as PNG, beside it.

    `networks` are those of the run by phase, all with the same labels; each is drawn at every width
    it has. Raises UserError when a file cannot be written.
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    phases = dict.fromkeys(line["phase"] for line in lines)
    histories = {phase: [line for line in lines if line["phase"] == phase] for phase in phases}
    heard = {
        f"{name}, width {width}": answers(network, test.features[0], width)
        for name, network in networks.items()
        for width in network.config.widths
    }
    labels = next(iter(networks.values())).config.labels
    plots.write(folder, labels, test.labels.cpu().numpy(), heard, test.engines, histories)
