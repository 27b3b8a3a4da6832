"""The report of an artifact with several widths."""

import json
from pathlib import Path

import pytest
from checkpoints import untrained
from command_line import Run, refused

import bicompile as package


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Widths 0 and 1 of an untrained network for cortex-a53; for reading only."""
    folder = tmp_path_factory.mktemp("widths")
    model = untrained(folder / "network.safetensors", front=8, hidden=32, memory=16)
    out = folder / "both"
    package.compile(model, target="cortex-a53", out=out, widths=(0, 1), check=False)
    return out


def test_a_report_is_of_one_width_and_tells_the_totals_of_all(
    bicompile: Run, both: Path, tmp_path: Path
) -> None:
    told = {}
    for width in (0, 1):
        out = tmp_path / str(width)
        assert bicompile("report", both, "--width", width, "-o", out).status == 0
        told[width] = json.loads((out / "report.json").read_text())
        page = (out / "report.html").read_text()
        assert f"the rest of this page is of width {width}" in page
    assert told[0]["widths"] == told[1]["widths"]
    for width, figures in told.items():
        assert figures["model"].endswith(f"width {width}")
        assert figures["total"] == figures["widths"][str(width)]
    assert len(told[1]["layers"]) < len(told[0]["layers"])


@pytest.mark.slow
def test_a_report_is_of_the_first_width_by_default(
    bicompile: Run, both: Path, tmp_path: Path
) -> None:
    assert bicompile("report", both, "-o", tmp_path / "out").status == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["model"].endswith("width 0")


def test_a_width_that_is_not_there_is_refused(bicompile: Run, both: Path, tmp_path: Path) -> None:
    for command in (("report", "-o", tmp_path / "out"), ("cost",), ("verify",)):
        verb, *rest = command
        refused(bicompile(verb, both, "--width", 7, *rest), "has no width 7; it has 0, 1")


def test_a_width_of_an_artifact_with_one_is_refused(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    ended = bicompile("report", compiled_folder, "--width", 0, "-o", tmp_path / "out")
    refused(ended, "has one width; give none")
