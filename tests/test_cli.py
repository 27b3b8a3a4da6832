import hashlib
import importlib.machinery
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import pytest
import soundfile
from onnx import helper, numpy_helper

from bicompile import cli, toolchain

COMMAND = (sys.executable, "-c", "from bicompile.cli import main; main()")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


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


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def refused(ended: Ended, *said: str) -> None:
    """Status 2, one sentence, nothing else."""
    assert ended.status == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("bicompile: ")
    assert ended.err.count("\n") == 1, ended.err
    assert "internal error" not in ended.err
    for words in said:
        assert words in ended.err


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(1).standard_normal(16000) * 0.1, 16000)
    return path


@pytest.fixture
def copied(compiled_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled_folder, tmp_path / "copied"))


# What is compiled


def truncated(model: bytes) -> bytes:
    return model[: len(model) // 2]


def dynamic(model: bytes) -> bytes:
    read = onnx.load_from_string(model)
    read.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return read.SerializeToString()


def unsupported(_model: bytes) -> bytes:
    nodes = [helper.make_node("Det", ["x"], ["y"], "the/node")]
    return networks.model_of(nodes, {}, x=(1, 3, 3), y=(1,)).SerializeToString()


def with_expf(_model: bytes) -> bytes:
    return networks.float_network("Softmax").SerializeToString()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"RIFF, but not really", "is not an ONNX model"),
        (lambda _: b"", "is not an ONNX model"),
        (truncated, "truncated"),
        (dynamic, "dynamic shape"),
        (unsupported, "node the/node is Det"),
        (with_expf, "the model needs expf, which a freestanding object does not have; remove"),
    ],
    ids=["no onnx", "empty", "truncated", "dynamic", "unsupported op", "needs expf"],
)
def test_a_model_that_cannot_be_compiled_is_one_sentence_and_writes_nothing(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "bad.onnx").write_bytes(change(keyword_onnx.read_bytes()))
    refused(
        bicompile("compile", tmp_path / "bad.onnx", "--target", "armv8-a", "-o", tmp_path / "out"),
        said,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_a_missing_model_is_one_sentence(bicompile: Run, tmp_path: Path) -> None:
    model, out = tmp_path / "no.onnx", tmp_path / "out"
    refused(
        bicompile("compile", model, "--target", "armv8-a", "-o", out), f"{model} does not exist"
    )


def test_an_unknown_zoo_model_is_one_sentence(bicompile: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(bicompile("compile", "zoo:nothing", "--target", "armv8-a", "-o", out), "zoo has no")


def test_a_width_of_an_onnx_file_is_refused(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> None:
    command = ("compile", keyword_onnx, "--target", "armv8-a", "-o", tmp_path / "out", "--width", 1)
    refused(bicompile(*command), "has one width")


def test_an_unknown_target_names_the_nearest_and_is_told_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom bicompile import cli\n"
        "sys.argv = ['bicompile', 'compile', 'x.onnx', '--target', 'cortexa53', '-o', 'out']\n"
        "try: cli.main()\n"
        "finally: print([name for name in ('tvm', 'torch', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout == "[]\n"
    refused(
        Ended(done.returncode, "", done.stderr),
        "unknown target 'cortexa53': known targets are cortex-a53, cortex-a72, cortex-a76, "
        "neoverse-n1, armv8-a, host; did you mean cortex-a53?",
    )


# Where it is written


def test_an_output_folder_with_other_content_is_refused_and_untouched(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused(
        bicompile("compile", keyword_onnx, "--target", "armv8-a", "-o", tmp_path),
        f"{tmp_path} already holds something else",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("option", ["-o", "--dump-ir"])
def test_a_place_that_cannot_be_written_is_one_sentence(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"-o": tmp_path / "out", option: tmp_path / "file" / "out"}
    options = [word for pair in places.items() for word in pair]
    refused(bicompile("compile", keyword_onnx, "--target", "armv8-a", *options), "file/out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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


@pytest.mark.parametrize("disk", [4, 20, 48], indirect=True)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    bicompile: Run, keyword_onnx: Path, disk: Path
) -> None:
    refused(
        bicompile("compile", keyword_onnx, "--target", "armv8-a", "-o", disk / "out", "--no-check"),
        f"the disk is full: {disk / 'out'} was not written",
    )
    assert not list(disk.iterdir())


def test_an_output_that_cannot_be_printed_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    refused(Ended(done.returncode, "", done.stderr), "the disk is full (standard output)")


# What is run


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is an empty file"), (b"not audio at all", "is not audio that can be read")],
    ids=["empty", "not audio"],
)
def test_a_file_without_sound_is_one_sentence(
    bicompile: Run, compiled_folder: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "clip.wav").write_bytes(content)
    refused(bicompile("run", compiled_folder, tmp_path / "clip.wav"), f"{tmp_path}/clip.wav", said)


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "said"),
    [
        (0.5, 16000, 1, "padded with zeros from 0.50 s"),
        (2.5, 16000, 1, "cut to the first second of 2.50 s"),
        (1, 16000, 2, "mean of 2 channels"),
        (1, 44100, 1, "resampled from 44100 Hz to 16000 Hz"),
    ],
)
def test_another_length_rate_or_channel_count_is_accepted_and_said(
    bicompile: Run,
    compiled_folder: Path,
    tmp_path: Path,
    seconds: float,
    rate: int,
    channels: int,
    said: str,
) -> None:
    sound = np.full((int(seconds * rate), channels), 0.1)
    soundfile.write(tmp_path / "clip.wav", sound, rate)
    ended = bicompile("run", compiled_folder, tmp_path / "clip.wav")
    assert (ended.status, ended.err) == (0, "")
    assert f"({said})" in ended.out


def test_an_unknown_device_names_the_nearest(
    bicompile: Run, compiled_folder: Path, clip: Path
) -> None:
    refused(
        bicompile("run", compiled_folder, clip, "--device", "emulate"),
        "unknown device 'emulate': known devices are emulator, qemu, host; did you mean emulator?",
    )


def test_a_changed_object_is_refused(bicompile: Run, copied: Path, clip: Path) -> None:
    obj = copied / "model.o"
    obj.write_bytes(obj.read_bytes() + b"\0")
    for verb in ("run", "verify"):
        refused(bicompile(verb, copied, clip), f"{obj} was changed after it was built")


def test_a_folder_that_is_no_artifact_is_refused(
    bicompile: Run, clip: Path, tmp_path: Path
) -> None:
    refused(bicompile("run", tmp_path, clip), "is not an artifact")


@pytest.mark.parametrize(
    ("folder", "device", "said"),
    [
        ("host_folder", "emulator", "the emulator runs arm64; compile with --target cortex-a53"),
        ("host_folder", "qemu", "qemu runs arm64; compile with --target cortex-a53"),
        ("compiled_folder", "host", "was built for cortex-a53 (aarch64)"),
    ],
)
def test_an_artifact_for_another_processor_than_the_devices_is_refused(
    bicompile: Run,
    request: pytest.FixtureRequest,
    clip: Path,
    folder: str,
    device: str,
    said: str,
) -> None:
    if toolchain.machine_arch() == "aarch64":
        pytest.skip("here the host is arm64 too")
    artifact = request.getfixturevalue(folder)
    refused(bicompile("run", artifact, clip, "--device", device), f"{artifact}/model.o", said)


def test_a_missing_qemu_is_one_sentence(
    bicompile: Run, compiled_folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    refused(
        bicompile("run", compiled_folder, clip, "--device", "qemu"),
        "qemu-aarch64 is not installed: apt-get install qemu-user",
    )


def test_a_missing_ziglang_is_one_sentence(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        """Finds all packages that are installed, but for one."""

        @staticmethod
        def find_spec(name: str, *others: Any) -> importlib.machinery.ModuleSpec | None:
            return (
                None
                if name == "ziglang"
                else importlib.machinery.PathFinder.find_spec(name, *others)
            )

    monkeypatch.setattr(sys, "meta_path", [Without])
    toolchain._package.cache_clear()
    try:
        ended = bicompile("compile", keyword_onnx, "--target", "armv8-a", "-o", tmp_path / "out")
    finally:
        toolchain._package.cache_clear()
    refused(ended, "the package ziglang is not installed: run pip install ziglang==0.17.1")
    assert not list(tmp_path.iterdir())


# How it ends


def test_debug_shows_the_traceback_wherever_it_stands(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    command = ["run", str(compiled_folder), str(tmp_path / "no.wav")]
    for place in (0, 1, 3):
        ended = bicompile(*command[:place], "--debug", *command[place:])
        assert ended.status == 2
        assert ended.err.startswith("Traceback (most recent call last):\n")
        assert ended.err.splitlines()[-1].startswith(f"bicompile: {tmp_path / 'no.wav'} does not")


def test_an_error_of_our_own_is_one_line_that_asks_for_a_report(
    bicompile: Run, compiled_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("bicompile.artifact.read_artifact", fail)
    ended = bicompile("run", compiled_folder, "clip.wav")
    assert ended.status == 70
    assert ended.err == (
        "bicompile: internal error: RuntimeError: first line; please report it with the output of "
        "the same command and --debug\n"
    )


def test_ctrl_c_in_a_compile_leaves_nothing_and_the_next_compile_is_good(
    bicompile: Run, keyword_onnx: Path, compiled_folder: Path, tmp_path: Path
) -> None:
    command = ["compile", str(keyword_onnx), "--target", "cortex-a53", "-o", str(tmp_path / "out")]
    started = subprocess.Popen(
        [*COMMAND, *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()):  # it writes beside `out`
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the tools it runs, too
    _, err = started.communicate(timeout=60)
    assert err == "bicompile: stopped; what was finished is kept\n"
    assert started.returncode == 130
    assert not list(tmp_path.iterdir())
    assert bicompile(*command).status == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert made == {path.name: path.read_bytes() for path in compiled_folder.iterdir()}


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""


def test_help_imports_neither_tvm_nor_torch() -> None:
    code = (
        "import sys\nfrom bicompile import cli\nsys.argv = ['bicompile', 'compile', '--help']\n"
        "try: cli.main()\n"
        "finally: print([n for n in ('tvm', 'torch', 'onnx', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


# What it says


def test_compile_tells_layers_and_sizes(bicompile: Run, keyword_onnx: Path, tmp_path: Path) -> None:
    command = ("compile", keyword_onnx, "--target", "cortex-a53", "-o", tmp_path / "out")
    ended = bicompile(*command)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"keywords.onnx for cortex-a53: {tmp_path / 'out'}"
    assert lines[1] == "  3 of 3 layers became popcounts"
    assert lines[-1].startswith("  object: ")
    told = json.loads(bicompile(*command, "--json").out)
    assert told["target"] == "cortex-a53"
    assert [layer["binary"] for layer in told["layers"]] == [True] * 3
    assert f"{told['code_bytes'] + told['constant_bytes']} bytes" in lines[-1]


def test_a_model_without_a_binary_layer_is_compiled_with_a_warning(
    bicompile: Run, tmp_path: Path
) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "float.onnx", "--target", "cortex-a53", "-o", out)
    assert ended.status == 0
    assert "warning: no layer is binary" in ended.out
    assert "dense stays float: its weights take 30 values" in ended.out


def test_run_tells_word_device_and_instructions(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    clips = Path(shutil.copytree(networks_clips(), tmp_path / "clips"))
    ended = bicompile("run", compiled_folder, clips)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) == 25
    assert all(" on emulator  " in line and " instructions" in line for line in lines[:24])
    told = json.loads(bicompile("run", compiled_folder, "zoo:clips", "--json").out)
    assert lines[24] == f"{told['right']} of 24 right ({told['right'] / 24:.1%})"
    assert told["device"] == "emulator"
    assert [row["word"] for row in told["clips"]] == [line.split()[1] for line in lines[:24]]


def networks_clips() -> Path:
    import bicompile as package

    return Path(package.__file__).parent / "zoo" / "clips"


def test_verify_of_a_good_artifact_passes(
    bicompile: Run, compiled_folder: Path, keyword_onnx: Path, clip: Path
) -> None:
    ended = bicompile("verify", compiled_folder, clip, "--model", keyword_onnx)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == (
        f"{compiled_folder} on emulator, keywords.onnx in onnxruntime, 1 clips"
    )
    assert ended.out.splitlines()[-1] == "  passed"


def test_verify_of_wrong_weights_fails_with_status_1(
    bicompile: Run, copied: Path, keyword_onnx: Path, clip: Path
) -> None:
    lowered = onnx.load(copied / "lowered.onnx")
    for tensor in lowered.graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8 and tensor.dims[0] == 12:
            tensor.CopyFrom(numpy_helper.from_array(~numpy_helper.to_array(tensor), tensor.name))
    onnx.save(lowered, copied / "lowered.onnx")
    manifest = json.loads((copied / "manifest.json").read_text())
    digest = hashlib.sha256((copied / "lowered.onnx").read_bytes()).hexdigest()
    manifest["sha256"]["lowered.onnx"] = digest
    (copied / "manifest.json").write_text(json.dumps(manifest))
    ended = bicompile("verify", copied, clip)  # against lowered.onnx itself
    assert (ended.status, ended.err) == (1, "")
    assert ended.out.splitlines()[-1] == "  FAILED"
    told = bicompile("verify", copied, clip, "--json")
    assert told.status == 1
    assert json.loads(told.out)["passed"] is False


def test_targets_are_the_same_as_text_and_as_json(bicompile: Run) -> None:
    told = json.loads(bicompile("targets", "--json").out)["targets"]
    names = [line.split()[0] for line in bicompile("targets").out.splitlines()]
    assert [target["name"] for target in told] == names
    assert names[0] == "cortex-a53"
    assert names[-1] == "host"
