import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
import soundfile
from checkpoints import untrained
from command_line import Ended, Run
from hypothesis import settings

from bicompile import cli

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-goldens", action="store_true", help="write the golden texts anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden one of that name beside the test.

    `--renew-goldens` writes it instead.
    """
    folder = request.path.parent / "goldens"

    def compare(name: str, text: str) -> None:
        path = folder / f"{name}.txt"
        if request.config.getoption("renew_goldens"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"{path} is another; if the new text is right, renew it"

    return compare


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of widths 0 and 1, with norms, thresholds and alphas of both signs."""
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    return untrained(path, front=3, hidden=20, memory=9)


@pytest.fixture(scope="session")
def traced_onnx(small_checkpoint: Path) -> Path:
    """Width 0 of the small checkpoint, traced; for reading only."""
    from bicompile.trace import trace

    path = small_checkpoint.with_name("width0.onnx")
    trace(small_checkpoint, path, width=0)
    return path


@pytest.fixture(scope="session")
def keyword_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small binary network that takes clips, as an ONNX file."""
    path = tmp_path_factory.mktemp("models") / "keywords.onnx"
    onnx.save(networks.keyword_network(), path)
    return path


@pytest.fixture(scope="session")
def compiled_folder(keyword_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network compiled for cortex-a53; for reading only."""
    return compiled(keyword_onnx, "cortex-a53", tmp_path_factory.mktemp("compiled") / "artifact")


@pytest.fixture(scope="session")
def host_folder(keyword_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network compiled for this machine; for reading only."""
    return compiled(keyword_onnx, "host", tmp_path_factory.mktemp("compiled") / "artifact")


def compiled(model: Path, target: str, out: Path) -> Path:
    import bicompile

    return bicompile.compile(model, target=target, out=out).folder


@pytest.fixture
def bicompile(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, where what it imports is imported already."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["bicompile", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(1).standard_normal(16000) * 0.1, 16000)
    return path


@pytest.fixture
def copied(compiled_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled_folder, tmp_path / "copied"))


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of a few kilobytes: the test's parameter."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs"]
    try:
        mounted = subprocess.run(["mount", *options, folder], capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
