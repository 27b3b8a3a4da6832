"""What the plots show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from bicompile.errors import UserError
from bicompile.training import plots

LABELS = ("unknown", "silence", "yes")
SPOKEN = np.array([0, 0, 1, 2, 2, 2])
HEARD = {"float": SPOKEN, "width 1": np.array([0, 1, 1, 2, 2, 0])}
ENGINES = ("a", "a", "silence", "a", "b", "b")


def history(*shares: float, widths: tuple[str, ...] = ("0",)) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "loss": 1 - share,
            "validation": {width: {"all": share / (1 + int(width))} for width in widths},
        }
        for epoch, share in enumerate(shares, start=1)
    ]


HISTORIES = {"teacher": history(0.5), "student": history(0.25, 0.5, 0.75, widths=("0", "1"))}


def test_three_png_files_are_written(tmp_path: Path) -> None:
    plots.write(tmp_path / "new", LABELS, SPOKEN, HEARD, ENGINES, HISTORIES)
    found = {path.name: path.read_bytes()[:8] for path in (tmp_path / "new").iterdir()}
    names = ("accuracy.png", "confusion.png", "learning-curves.png")
    assert found == dict.fromkeys(names, b"\x89PNG\r\n\x1a\n")


def test_without_a_history_there_are_no_learning_curves(tmp_path: Path) -> None:
    plots.write(tmp_path, LABELS, SPOKEN, HEARD, ENGINES, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.png", "confusion.png"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is where a folder is needed"):
        plots.write(tmp_path / "file" / "x", LABELS, SPOKEN, HEARD, ENGINES, {})


@pytest.mark.parametrize("disk", [4], indirect=True)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(disk: Path) -> None:
    with pytest.raises(UserError, match="the disk is full"):
        plots.write(disk, LABELS, SPOKEN, HEARD, ENGINES, {})
    assert not list(disk.iterdir())


def test_a_bar_is_as_high_as_the_accuracy_and_says_it() -> None:
    rows = {"one": {"all": 0.875, "a": 1.0}, "two": {"all": 0.5, "a": 0.25}}
    (axes,) = plots.accuracy_plot(rows, {"all": 8, "a": 4}).axes
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [[0.875, 1.0], [0.5, 0.25]]
    assert [text.get_text() for text in axes.texts] == ["87.5", "100.0", "50.0", "25.0"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["all\n8 clips", "a\n4 clips"]


def test_two_dozen_networks_look_different() -> None:
    rows = {str(number): {"all": 0.5} for number in range(24)}
    (axes,) = plots.accuracy_plot(rows, {"all": 2}).axes
    looks = {(to_hex(bars[0].get_facecolor()), bars[0].get_hatch()) for bars in axes.containers}
    assert len(looks) == 24


def test_a_confusion_shows_the_share_of_each_spoken_word_and_no_zeros() -> None:
    counts = {"net": np.array([[3, 1, 0], [0, 0, 0], [0, 2, 0]])}
    (axes,) = plots.confusion_plot(counts, LABELS).axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (1, 2): "100"}
    assert axes.get_title() == "net\n50.0% right"
    assert (axes.get_xlabel(), axes.get_ylabel().split()[0]) == ("heard", "spoken")


def test_a_phase_has_its_loss_above_and_a_curve_for_every_width_below() -> None:
    figure = plots.learning_curves(HISTORIES)
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in above] == ["teacher", "student"]
    assert list(above[1].lines[0].get_ydata()) == [0.75, 0.5, 0.25]
    curves = {line.get_label(): list(line.get_ydata()) for line in below[1].lines}
    assert curves == {"width 0": [0.25, 0.5, 0.75], "width 1": [0.125, 0.25, 0.375]}
    assert below[0].get_ylim() == below[1].get_ylim() == (0.1, 1)
