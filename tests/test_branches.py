"""One object with several widths of a network."""

import ctypes
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoints import untrained
from elftools.elf.elffile import ELFFile

import bicompile
from bicompile import toolchain
from bicompile.artifact import Artifact, read_artifact
from bicompile.branches import branches_of, lower_widths, share
from bicompile.build import laid_out
from bicompile.calls import read_calls
from bicompile.cost.report import observe, sample_of
from bicompile.devices import OUTPUT_FILL, open_device
from bicompile.devices.emulator import Emulator
from bicompile.devices.memory import Placement
from bicompile.driver import CHECKED_ENTRY, ENTRY, ERRORS
from bicompile.errors import UserError
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.targets import find_target
from bicompile.verify import verify

WIDTHS = (0, 1)
X = np.random.default_rng(2).uniform(-30, 30, (5, 1, 1, 32, 32)).astype(np.float32)


def strange_inputs(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of all sizes; NaN, infinities, denormals, huge ones and zeros among or instead."""
    random = np.random.default_rng(9)
    strange = [np.nan, np.inf, -np.inf, 1e-40, -1e-45, 3e38, -3e38, 0.0, -0.0]
    x = random.standard_normal((count, *shape)) * 10.0 ** random.integers(
        -2, 3, (count, 1, 1, 1, 1)
    )
    for index in range(count):
        share = (0, 0.001, 0.1, 1)[index % 4]
        chosen = random.choice(strange, shape)
        x[index] = np.where(random.random(shape) < share, chosen, x[index])
        if share == 1 and index % 8 > 3:
            x[index] = strange[index // 8 % len(strange)]
    return x.astype(np.float32)


def compiled(checkpoint: Path, target: str, out: Path, widths: tuple[int, ...]) -> Artifact:
    return bicompile.compile(checkpoint, target=target, out=out, widths=widths, check=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of widths 0 and 1, in which channels fill bytes."""
    path = tmp_path_factory.mktemp("networks") / "network.safetensors"
    return untrained(path, front=8, hidden=32, memory=16)


@pytest.fixture(scope="module")
def both(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both widths of the network for cortex-a53; for reading only."""
    out = tmp_path_factory.mktemp("widths") / "both"
    return compiled(checkpoint, "cortex-a53", out, WIDTHS).folder


@pytest.fixture(scope="module")
def both_on_host(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("widths") / "host"
    return compiled(checkpoint, "host", out, WIDTHS).folder


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Width 1 by itself."""
    return compiled(checkpoint, "cortex-a53", tmp_path_factory.mktemp("alone") / "width1", (1,))


@pytest.mark.parametrize("device", ["emulator", "qemu"])
def test_a_width_gives_what_it_gives_alone(device: str, both: Path, alone: Artifact) -> None:
    for x in X:
        of_both = read_artifact(both).at(1).run(x, device)
        np.testing.assert_array_equal(of_both, alone.run(x, device))


@pytest.mark.parametrize(
    ("device", "folder"),
    [("emulator", "both"), pytest.param("host", "both_on_host", marks=pytest.mark.slow)],
)
def test_every_width_passes_its_verification(
    device: str, folder: str, request: pytest.FixtureRequest
) -> None:
    artifact = read_artifact(request.getfixturevalue(folder))
    for width in WIDTHS:
        chosen = artifact.at(width)
        assert verify(chosen, open_device(device), X, onnx.load(chosen.lowered)).passed


def test_every_width_has_its_own_costs(both: Path) -> None:
    run = []
    for width in WIDTHS:
        artifact = read_artifact(both).at(width)
        observed = observe(artifact.executable, sample_of(artifact.executable))
        rows = observed.layers(read_calls(artifact.report))
        run.append(sum(row.instructions for row in rows))
        with open_device("emulator").load(artifact.executable) as loaded:
            assert loaded.run(X).instructions == (run[-1],) * len(X)
    assert run[1] < run[0]


def test_reports_tell_the_memory_of_each_width(both: Path) -> None:
    for width in WIDTHS:
        artifact = read_artifact(both).at(width)
        memory = json.loads(artifact.report.read_text())["memory"]
        with open_device("emulator").load(artifact.executable) as loaded:
            assert memory["stack_bytes"] == loaded.run(X).stack_bytes
        assert 0 < memory["live_bytes"] <= memory["workspace_bytes"] <= artifact.workspace_bytes


def test_the_first_width_is_the_default(both: Path) -> None:
    artifact = bicompile.read(both)
    assert artifact.width == 0
    np.testing.assert_array_equal(artifact.run(X[0]), artifact.at(0).run(X[0]))


def test_a_width_that_is_not_there_is_told_with_those_that_are(both: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_artifact(both).at(7)
    assert str(caught.value) == f"{both} has no width 7; it has 0, 1"


def test_a_width_more_costs_less_than_itself(both: Path, alone: Artifact) -> None:
    """Width 1 is a block of the two that width 0 has, and all that is not in blocks."""
    sizes = [(folder / "model.o").stat().st_size for folder in (both, alone.folder)]
    assert sizes[0] < 1.5 * sizes[1]


def test_equal_constants_of_two_widths_stand_once_and_kernels_are_shared(both: Path) -> None:
    graphs = {width: onnx.load(both / f"lowered-width{width}.onnx") for width in WIDTHS}
    programs = laid_out([branch.program for branch in branches_of(lower_widths(graphs), "aarch64")])
    assert set(programs[0].kernels) & set(programs[1].kernels)
    with (both / "model.o").open("rb") as file:
        data = ELFFile(file).get_section_by_name(".rodata").data()
    for program in programs:
        for array in program.constants.values():
            if array.nbytes >= 32 and array.any():
                assert data.count(array.tobytes()) == 1


def test_different_kernels_of_one_name_get_two(keyword_onnx: Path, traced_onnx: Path) -> None:
    programs = [lower(load_model(path)) for path in (keyword_onnx, traced_onnx)]
    shared = share([*programs, programs[0]])
    assert set(shared[0].kernels) == set(shared[2].kernels)
    assert set(shared[0].kernels).isdisjoint(shared[1].kernels)


def test_two_compiles_are_the_same_bytes(checkpoint: Path, both: Path, tmp_path: Path) -> None:
    again = compiled(checkpoint, "cortex-a53", tmp_path / "again", WIDTHS).folder
    made = {path.name: path.read_bytes() for path in again.iterdir()}
    assert made == {path.name: path.read_bytes() for path in both.iterdir()}
    assert {"lowered-width0.onnx", "report-width1.json", "manifest.json"} <= set(made)
    assert "lowered.onnx" not in made


@pytest.mark.parametrize("placement", ["start", "end"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_input_leads_outside_the_buffers(width: int, placement: Placement, both: Path) -> None:
    executable = read_artifact(both).at(width).executable
    with Emulator(placement).load(executable) as loaded:
        loaded.run(strange_inputs(4, executable.input.shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("device", "folder"), [("emulator", "both"), ("host", "both_on_host")])
def test_a_number_that_is_none_reaches_every_output(
    device: str, folder: str, value: float, request: pytest.FixtureRequest
) -> None:
    artifact = read_artifact(request.getfixturevalue(folder))
    for width in WIDTHS:
        x = X[0].copy()
        x[0, 0, 7, 9] = value
        assert np.isnan(artifact.at(width).run(x, device)).all()


@pytest.mark.slow
@pytest.mark.parametrize("width", range(4))
@pytest.mark.parametrize("options", [{}, {"constants": "float16", "classifier": "int8"}])
def test_a_thousand_strange_inputs_stay_inside_the_buffers(
    options: dict[str, Any], width: int, tmp_path: Path
) -> None:
    artifact = bicompile.compile(
        "zoo:bifsmnv2-kws12",
        target="cortex-a53",
        out=tmp_path / "kws",
        widths=range(4),
        check=False,
        **options,
    ).at(width)
    inputs = strange_inputs(1000, artifact.input.shape)
    for placement, half in (("start", inputs[::2]), ("end", inputs[1::2])):
        with Emulator(placement).load(artifact.executable) as loaded:
            outputs = loaded.run(half).outputs
        usual = np.isfinite(half).all(axis=(1, 2, 3, 4)) & (np.abs(half).max() < 1e3)
        assert np.isfinite(outputs[usual]).all()


class _Native:
    """The host's object, called with whatever a test wants."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        toolchain.link_shared(artifact.executable.object, folder / "m.so", find_target("host"))
        self.library = ctypes.CDLL(str(folder / "m.so"))
        self.input, self.output, self.workspace = (
            self.aligned(size)
            for size in (
                artifact.input.nbytes,
                artifact.output.nbytes,
                artifact.workspace_bytes,
            )
        )
        self.input[:] = X[0].reshape(-1).view(np.uint8)
        self.output[:] = OUTPUT_FILL

    @staticmethod
    def aligned(size: int) -> np.ndarray:
        memory = np.empty(size + 128, np.uint8)
        start = -memory.ctypes.data % 64
        return memory[start : start + size]

    def pointers(self) -> list[ctypes.c_void_p]:
        buffers = (self.input, self.output, self.workspace)
        return [ctypes.c_void_p(memory.ctypes.data) for memory in buffers]


@pytest.fixture
def native(both_on_host: Path, tmp_path: Path) -> _Native:
    return _Native(read_artifact(both_on_host), tmp_path)


@pytest.mark.parametrize("width", [-1, 2, 2**31 - 1, -(2**31)])
def test_an_unknown_width_writes_nothing(native: _Native, width: int) -> None:
    native.library[ENTRY](ctypes.c_int(width), *native.pointers())
    assert (native.output == OUTPUT_FILL).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_checked_entry_runs_a_width(native: _Native, both_on_host: Path, width: int) -> None:
    size = ctypes.c_size_t(len(native.workspace))
    assert native.library[CHECKED_ENTRY](ctypes.c_int(width), *native.pointers(), size) == 0
    expected = read_artifact(both_on_host).at(width).run(X[0], "host")
    np.testing.assert_array_equal(native.output.view(np.float32), expected.ravel())


@pytest.mark.parametrize(
    ("error", "width", "moved", "cleared", "missing"),
    [
        ("NO_SUCH_WIDTH", 2, 0, None, 0),
        ("NULL_POINTER", 0, 0, 0, 0),
        ("NULL_POINTER", 0, 0, 1, 0),
        ("NULL_POINTER", 0, 0, 2, 0),
        ("MISALIGNED", 0, 4, None, 0),
        ("MISALIGNED", 0, 32, None, 0),
        ("WORKSPACE_TOO_SMALL", 0, 0, None, 1),
    ],
)
def test_the_checked_entry_refuses_and_writes_nothing(
    native: _Native, error: str, width: int, moved: int, cleared: int | None, missing: int
) -> None:
    pointers = native.pointers()
    assert pointers[2].value is not None
    pointers[2] = ctypes.c_void_p(pointers[2].value + moved)
    if cleared is not None:
        pointers[cleared] = ctypes.c_void_p(None)
    size = ctypes.c_size_t(len(native.workspace) - missing)
    status = native.library[CHECKED_ENTRY](ctypes.c_int(width), *pointers, size)
    assert status == ERRORS[error]
    assert (native.output == OUTPUT_FILL).all()


def test_a_hundred_threads_run_one_object_at_once(both_on_host: Path, tmp_path: Path) -> None:
    artifact = read_artifact(both_on_host)
    programs = [_Native(artifact, tmp_path) for _ in range(100)]
    expected = [artifact.at(width).run(X[0], "host").ravel() for width in WIDTHS]
    right: list[bool] = []
    together = threading.Barrier(len(programs))

    def run(index: int) -> None:
        together.wait()
        for width in (*WIDTHS, *WIDTHS) if index % 2 else reversed((*WIDTHS, *WIDTHS)):
            # ctypes lets other threads go on meanwhile.
            programs[index].library[ENTRY](ctypes.c_int(width), *programs[index].pointers())
            found = programs[index].output.view(np.float32)
            right.append(np.array_equal(found, expected[width]))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 400


def test_the_header_tells_the_widths_and_the_errors(both: Path) -> None:
    text = (both / "model.h").read_text()
    assert "void model_run(int width, const float *input, float *output, void *workspace);" in text
    assert "one of 0, 1; with another one nothing is written" in text
    for name, number in ERRORS.items():
        assert f"#define MODEL_{name} {number}\n" in text
