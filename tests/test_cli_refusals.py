import importlib.machinery
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import pytest
import soundfile
from command_line import COMMAND, Ended, Run, refused
from onnx import helper

from bicompile import toolchain

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


def with_sine(_model: bytes) -> bytes:
    return networks.float_network("Sin").SerializeToString()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"RIFF, but not really", "is not an ONNX model"),
        (lambda _: b"", "is not an ONNX model"),
        (truncated, "truncated"),
        (dynamic, "dynamic shape"),
        (unsupported, "node the/node is Det"),
        (with_sine, "the model needs sinf of the mathematical functions, and an object has expf"),
    ],
    ids=["no onnx", "empty", "truncated", "dynamic", "unsupported op", "needs sinf"],
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
    out = tmp_path / "out"
    command = ("compile", keyword_onnx, "--target", "armv8-a", "-o", out, "--widths", 1)
    refused(bicompile(*command), "has one width")


@pytest.mark.parametrize(("widths", "said"), [("0,9", "no such width"), ("0,one", "0,1,2")])
def test_widths_that_there_are_not_are_one_sentence(
    bicompile: Run, tmp_path: Path, widths: str, said: str
) -> None:
    command = ("compile", "zoo:bifsmnv2-kws12", "--target", "armv8-a", "-o", tmp_path / "out")
    refused(bicompile(*command, "--no-check", "--widths", widths), said)


@pytest.mark.parametrize("verb", ["run", "verify", "cost"])
def test_a_width_of_an_artifact_that_has_one_is_refused(
    bicompile: Run, compiled_folder: Path, clip: Path, verb: str
) -> None:
    clips = [] if verb == "cost" else [clip]
    said = f"{compiled_folder} has one width; give none"
    refused(bicompile(verb, compiled_folder, *clips, "--width", 0), said)


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
        "neoverse-n1, armv8-a, x86-64-v3, host; did you mean cortex-a53?",
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


@pytest.mark.parametrize("disk", [4, 12, 28], indirect=True)
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
