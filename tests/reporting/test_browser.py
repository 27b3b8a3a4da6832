"""The report of the zoo's network as a browser draws it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bicompile
from bicompile.load import load_model
from bicompile.reporting.page import write_report
from bicompile.zoo import traced_model

TWIN = Path(bicompile.__file__).parent / "zoo" / "bifsmnv2-kws12-float-width0.onnx"
BINARY, FLOAT, TWINS = "#1c7ed6", "#e8590c", "#fab005"
WRITTEN, UPDATED, READ = "#2f9e44", "#9c36b5", "#4dabf7"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    ours = bicompile.compile("zoo:bifsmnv2-kws12", target="cortex-a53", out=folder / "kws")
    twin = bicompile.compile(TWIN, target="cortex-a53", out=folder / "float")
    write_report(ours, folder / "report", twin=twin, traced=load_model(traced_model(ours)))
    return folder / "report" / "report.html"


@pytest.fixture(scope="module")
def screenshot(report: Path) -> np.ndarray:
    """What the page looks like: (height, width, 3) uint8."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed: apt-get install chromium"
    picture = report.with_name("page.png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--window-size=1120,5000", f"--screenshot={picture}"]
    subprocess.run([chromium, *options, report.as_uri()], check=True, capture_output=True)
    return np.asarray(Image.open(picture).convert("RGB"))


def pixels(screenshot: np.ndarray, colour: str) -> np.ndarray:
    """Where a colour is, (height, width) bool."""
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return (screenshot == rgb).all(axis=-1)


def bars(report: Path, kind: str) -> float:
    """The area of the bars of a class, as the page says it."""
    rectangles = [
        line for line in report.read_text().splitlines() if f'<rect class="{kind}"' in line
    ]
    sides = [
        [float(line.split(f'{side}="')[1].split('"')[0]) for side in ("width", "height")]
        for line in rectangles
    ]
    return float(np.prod(sides, axis=1).sum())


@pytest.mark.parametrize(("kind", "colour"), [("binary", BINARY), ("twin", TWINS)])
def test_the_bars_are_drawn(report: Path, screenshot: np.ndarray, kind: str, colour: str) -> None:
    assert pixels(screenshot[:1100], colour).sum() == pytest.approx(bars(report, kind), rel=0.05)


def test_the_roofline_is_drawn(screenshot: np.ndarray) -> None:
    """Two roofs, each flat for most of the chart's width, the binary one above."""
    chart = screenshot[1100:3200]
    flat = [int(pixels(chart, colour).sum(axis=1).argmax()) for colour in (BINARY, FLOAT)]
    lengths = [
        int(pixels(chart, c)[row].sum()) for c, row in zip((BINARY, FLOAT), flat, strict=True)
    ]
    assert min(lengths) > 300
    assert flat[0] < flat[1]


def test_the_registers_are_drawn(screenshot: np.ndarray) -> None:
    """A column a register: cells of every kind, all over the 32 columns."""
    used = [pixels(screenshot[2500:], colour).any(axis=0) for colour in (WRITTEN, UPDATED, READ)]
    assert all(columns.sum() > 150 for columns in used)
    left, right = np.flatnonzero(used[0])[[0, -1]]
    assert right - left > 28 * 18


def test_nothing_runs_out_of_the_page(screenshot: np.ndarray) -> None:
    assert (screenshot[:, -20:] == 255).all()
