"""Accuracy of a network on a split, as a whole and by the engine that spoke."""

import torch
from rich.console import Console
from rich.table import Table

from bicompile.model.network import BiFSMNv2
from bicompile.training.cache import Split

BATCH = 512

Accuracy = dict[str, float]
"""Share of right answers, 0 to 1: under `all`, and under the name of each engine."""


@torch.no_grad()
def accuracy(network: BiFSMNv2, split: Split, width: int) -> Accuracy:
    """Evaluate one width on the clips as they are; leaves the network in eval mode."""
    network.eval()
    batches = torch.split(split.features[0], BATCH)
    answers = torch.cat([network(batch[:, None], width).argmax(1) for batch in batches])
    right = (answers == split.labels).double()
    found = {"all": right.mean().item()}
    for engine in sorted(set(split.engines)):
        mine = torch.tensor([name == engine for name in split.engines])
        found[engine] = right[mine].mean().item()
    return found


def print_accuracies(rows: dict[str, Accuracy]) -> None:
    """Print a table with a row for each network and a column for each engine, in per cent."""
    columns = list(next(iter(rows.values())))
    table = Table("test accuracy, %", *columns)
    for name, row in rows.items():
        table.add_row(name, *(f"{100 * row[column]:.2f}" for column in columns))
    Console().print(table)
