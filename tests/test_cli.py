import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from command_line import COMMAND, Run
from onnx import numpy_helper

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
    assert lines[1] == "  3 of 3 layers binary, 100.0 % of 55256 multiply-accumulates"
    told = json.loads(bicompile(*command, "--json").out)
    assert lines[-2].startswith(f"  flash: {told['flash_bytes']} bytes ({told['code_bytes']} code")
    memory = told["memory"]
    assert lines[-1] == (
        f"  workspace: {memory['workspace_bytes']} bytes, of which {memory['live_bytes']} live at "
        f"once; stack: {memory['stack_bytes']} bytes"
    )
    assert told["target"] == "cortex-a53"
    assert [layer["binary"] for layer in told["layers"]] == [True] * 3
    assert told["code_bytes"] + told["constant_bytes"] == told["flash_bytes"]


def test_a_model_without_a_binary_layer_is_compiled_with_a_warning(
    bicompile: Run, tmp_path: Path
) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "float.onnx", "--target", "cortex-a53", "-o", out)
    assert ended.status == 0
    assert "warning: no layer is binary" in ended.out
    assert "dense stays float: its weights are real" in ended.out


def test_explain_tells_a_layer_a_line(bicompile: Run, keyword_onnx: Path) -> None:
    ended = bicompile("explain", keyword_onnx)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "keywords.onnx",
        "layer    MACs  becomes",
        "front  57.9 %  BinaryConv2d, 25 products a sum",
        "point  41.7 %  BinaryLinear, 20 products a sum",
        "head    0.4 %  BinaryLinear, 18 products a sum",
        "3 of 3 layers binary, 100.0 % of 55256 multiply-accumulates",
    ]


def test_explain_tells_why_layers_stay_float_in_80_columns(bicompile: Run, tmp_path: Path) -> None:
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "a_[long]_name/" * 9)
    model = networks.model_of([node], {"w": np.ones((5, 4), np.float32)}, x=(1, 5), y=(1, 4))
    onnx.save(model, tmp_path / "model.onnx")
    lines = bicompile("explain", tmp_path / "model.onnx").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "[long]" in lines[2]
    assert "warning: float:" in " ".join(lines)


def test_explain_for_a_target_names_the_kernel_of_a_layer(
    bicompile: Run, keyword_onnx: Path
) -> None:
    lines = bicompile("explain", keyword_onnx, "--target", "cortex-a53").out.splitlines()
    assert lines[2].endswith("  BinaryConv2d, 25 products a sum; kernel")
    assert lines[3].split() == ["popcount_64x20x25_5x5x1by4x132x1x33x1089_signs_of_rows"]


def test_compile_warns_of_a_layer_that_looks_binary_and_stays_float(
    bicompile: Run, tmp_path: Path
) -> None:
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    model = networks.model_of([node], {"w": np.ones((5, 4), np.float32)}, x=(1, 5), y=(1, 4))
    onnx.save(model, tmp_path / "model.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", out)
    assert ended.status == 0, ended.err
    assert "  warning: layer stays float: its input x is not a sum of ±1 tensors" in ended.out


def test_explain_as_json_has_these_keys(bicompile: Run, keyword_onnx: Path) -> None:
    told = json.loads(bicompile("explain", keyword_onnx, "--json").out)
    assert {name: told[name] for name in told if name != "layers"} == {
        "model": "keywords.onnx",
        "binary_layers": 3,
        "multiply_accumulates": 55256,
        "binary_multiply_accumulates": 55256,
    }
    assert told["layers"][0] == {
        "name": "front",
        "op": "Conv",
        "binary": True,
        "looks_binary": False,
        "kernel": "BinaryConv2d",
        "planes": 1,
        "products": 25,
        "multiply_accumulates": 32000,
        "reason": "BinaryConv2d, 25 products a sum",
        "function": None,
    }


def test_the_report_of_an_artifact_is_what_explain_says(
    bicompile: Run, keyword_onnx: Path, compiled_folder: Path
) -> None:
    told = bicompile("explain", keyword_onnx, "--target", "cortex-a53", "--json").out
    report = json.loads((compiled_folder / "report.json").read_text())
    for only_of_objects in ("calls", "memory", "agreement"):
        del report[only_of_objects]
    assert report == json.loads(told)


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


def test_cost_tells_every_kernel_and_names_the_model(bicompile: Run, compiled_folder: Path) -> None:
    ended = bicompile("cost", compiled_folder)
    assert ended.status == 0
    assert "model_run" in ended.out
    assert "cycles are modelled by the in-order model" in ended.out
    told = json.loads(bicompile("cost", compiled_folder, "--json").out)
    for table in ("layers", "kernels", "functions"):
        assert sum(row["instructions"] for row in told[table]) == told["total"]["instructions"]
        cycles = sum(row["modelled_cycles"]["cortex-a53"] for row in told[table])
        assert cycles == told["total"]["modelled_cycles"]["cortex-a53"]
    assert list(told["models"]) == ["cortex-a53"]


def test_cost_ties_rows_to_the_layers_of_the_model(bicompile: Run, compiled_folder: Path) -> None:
    told = json.loads(bicompile("cost", compiled_folder, "--json").out)
    rows = {row["name"]: row for row in told["layers"]}
    assert {"front", "point", "head"} <= rows.keys()
    assert rows["front"]["units"] == 8 * 8 * 20  # 25 products a sum
    assert rows["front"]["over_floor"]["cortex-a53"] > 1
    assert any(row["layers"] == ["head"] for row in told["kernels"])
    by_kernel = bicompile("cost", compiled_folder, "--kernels").out
    assert ": head" in by_kernel


def test_the_cost_of_an_artifact_that_tells_no_calls_is_refused(
    bicompile: Run, copied: Path
) -> None:
    (copied / "report.json").write_text("{}")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["sha256"]["report.json"] = hashlib.sha256(b"{}").hexdigest()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    ended = bicompile("cost", copied)
    assert ended.status == 2
    assert "report.json tells no kernel calls; compile the model again" in ended.err


def test_a_core_without_a_cost_model_is_refused(bicompile: Run, compiled_folder: Path) -> None:
    ended = bicompile("cost", compiled_folder, "--core", "cortex-m4")
    assert ended.status == 2
    assert "there are models for cortex-a53" in ended.err
