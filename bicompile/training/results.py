"""What a finished run shows: accuracy of the student beside its float twins, and plots."""

from collections.abc import Mapping
from pathlib import Path

from bicompile.model.network import BiFSMNv2
from bicompile.training import phases
from bicompile.training.cache import Split
from bicompile.training.evaluation import accuracy, print_accuracies, write_plots
from bicompile.training.recipe import Recipe
from bicompile.training.scores import Accuracy


def show_results(folder: Path, plan: Recipe, networks: Mapping[str, BiFSMNv2], test: Split) -> None:
    """Print test accuracy by width and engine, and write plots beside the run's metrics.

    Where a width has a float twin, a row says how far the student is above or below it, in points.
    """
    rows: dict[str, Accuracy] = {}
    final = networks[phases.final_name(plan)]
    for width in final.config.widths:
        student = accuracy(final, test, width)
        twin = networks.get(phases.twin_name(plan, width))
        if twin is None:
            rows[f"student, width {width}"] = student
            continue
        floats = accuracy(twin, test, width)
        rows[f"float, width {width}"] = floats
        rows[f"student, width {width}"] = student
        rows[f"difference, width {width}"] = {name: student[name] - floats[name] for name in floats}
    print_accuracies(rows)
    write_plots(folder, networks, test)
