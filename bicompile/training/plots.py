"""Plots of a training run and of an evaluation, as PNG files."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from bicompile.files import atomic_file
from bicompile.training.scores import Accuracy, accuracies, by_engine, confusion

# Okabe and Ito: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
HATCHES = ("", "///", "...", "xx")  # when all colours are used
MARKERS = "osD^v<>P"
DOTS_PER_INCH = 110

History = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl of one phase."""


def write(
    folder: Path,
    labels: Sequence[str],
    spoken: NDArray[np.int64],
    heard: Mapping[str, NDArray[np.int64]],
    engines: Sequence[str],
    histories: Mapping[str, History],
) -> None:
    """Write `accuracy.png`, `confusion.png` and, of `histories`, `learning-curves.png`.

    `spoken` and what each network `heard` are int64 (n,) indices into `labels`; `engines` has n
    names. Raises UserError when a file cannot be written.
    """
    rows = {name: accuracies(found == spoken, engines) for name, found in heard.items()}
    clips = {name: int(mine.sum()) for name, mine in by_engine(engines).items()}
    _save(accuracy_plot(rows, clips), folder / "accuracy.png")
    counts = {name: confusion(spoken, found, len(labels)) for name, found in heard.items()}
    _save(confusion_plot(counts, labels), folder / "confusion.png")
    if histories:
        _save(learning_curves(histories), folder / "learning-curves.png")


def accuracy_plot(rows: Mapping[str, Accuracy], clips: Mapping[str, int]) -> Figure:
    """A group of bars for each engine, a bar for each network; `clips` are counts by engine."""
    size = (2 + len(clips) * (0.6 + 0.22 * len(rows)), 4 + 0.22 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    thickness = 0.85 / len(rows)
    for number, (name, row) in enumerate(rows.items()):
        places = np.arange(len(clips)) + (number - (len(rows) - 1) / 2) * thickness
        shares = [row[engine] for engine in clips]
        hatch = HATCHES[number // len(COLOURS) % len(HATCHES)]
        bars = axes.bar(
            places, shares, thickness * 0.92, color=_colour(number), hatch=hatch, label=name
        )
        texts = [f"{100 * share:.1f}" for share in shares]
        axes.bar_label(bars, texts, rotation=90, padding=3, fontsize=8)
    axes.set_xticks(range(len(clips)), [f"{name}\n{count} clips" for name, count in clips.items()])
    axes.set_xlabel("engine")
    axes.set_ylim(0, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _tidy(axes)
    figure.legend(loc="outside upper left", frameon=False)
    return figure


def confusion_plot(counts: Mapping[str, NDArray[np.int64]], labels: Sequence[str]) -> Figure:
    """A matrix for each network: the share of a spoken word's clips that each word was heard in."""
    across = min(3, len(counts))
    down = -(-len(counts) // across)
    side = 1.6 + 0.3 * len(labels)
    figure = Figure(figsize=(across * side, down * side), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(counts) :]:
        panel.remove()
    for axes, (name, matrix) in zip(panels, counts.items(), strict=False):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if matrix[row, column]:
                colour = "white" if share > 0.5 else "black"
                text = f"{100 * share:.0f}"
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=7,
                    in_layout=False,
                )
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("heard")
        axes.set_ylabel("spoken (a row adds up to 100%)")
        title = textwrap.fill(name, int(10 * side))
        axes.set_title(f"{title}\n{np.trace(matrix) / matrix.sum():.1%} right", fontsize=10)
    return figure


def learning_curves(histories: Mapping[str, History]) -> Figure:
    """A column for each phase: the loss above, validation accuracy of every width below."""
    figure = Figure(figsize=(1 + 3.6 * len(histories), 6), layout="constrained")
    panels = figure.subplots(2, len(histories), squeeze=False, sharex="col")
    lowest = min(
        found["all"]
        for history in histories.values()
        for line in history
        for found in line["validation"].values()
    )
    for (above, below), (phase, history) in zip(panels.T, histories.items(), strict=True):
        epochs = [line["epoch"] for line in history]
        above.plot(epochs, [line["loss"] for line in history], color="black", marker=".")
        above.set_title(phase)
        above.set_ylim(bottom=0)
        for width in history[-1]["validation"]:
            shares = [line["validation"][width]["all"] for line in history]
            number = int(width)
            below.plot(
                epochs,
                shares,
                color=_colour(number),
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                label=f"width {width}",
            )
        below.set_xlabel("epoch")
        below.set_xlim(0.5, epochs[-1] + 0.5)
        below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        below.set_ylim(min(0.9, np.floor(10 * lowest) / 10), 1)
        below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.legend(loc="lower right", frameon=False)
        _tidy(above)
        _tidy(below)
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel("validation accuracy")
    return figure


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
