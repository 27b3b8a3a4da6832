import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import Run, refused
from conftest import A53

from bicompile.records import ABOUT, TRIALS, WORKLOADS, open_records, written_alone
from bicompile.schedules.decisions import decide, to_json
from bicompile.targets import find_target
from bicompile.tuning.bench import Bench
from bicompile.tuning.meters import EmulatorMeter
from bicompile.tuning.run import kernels_of_model, tune_kernels

A72 = find_target("cortex-a72")


@pytest.fixture(scope="module")
def tuned_folder(keyword_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the small network for cortex-a53; for reading only."""
    folder = tmp_path_factory.mktemp("tuned") / "records"
    kernels = kernels_of_model(str(keyword_onnx), A53)
    tune_kernels(kernels, A53, folder, device="emulator", trials=3)
    return folder


@pytest.fixture
def records(tuned_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned_folder, tmp_path / "records"))


@pytest.fixture
def compile_with(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    def run(records: Path | str, *more: str, target: str = "cortex-a53") -> object:
        out = tmp_path / "artifact"
        options = ("--target", target, "-o", out, "--no-check", "--records", records)
        return bicompile("compile", keyword_onnx, *options, *more)

    return run


def with_about(records: Path, **fields: object) -> Path:
    about = json.loads((records / ABOUT).read_text())
    (records / ABOUT).write_text(json.dumps({**about, **fields}))
    return records


def test_compiling_with_records_takes_the_best_and_passes_verification(
    compile_with: Callable, bicompile: Run, records: Path, keyword_onnx: Path, tmp_path: Path
) -> None:
    ended = compile_with(records)
    assert (ended.status, ended.err) == (0, "")
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    (found,) = open_records([str(records)], A53)
    for name, kernel in kernels_of_model(str(keyword_onnx), A53).items():
        best = found.best(kernel.nest, A53)
        assert manifest["schedules"][name] == to_json(best.decisions)
    verified = bicompile("verify", tmp_path / "artifact", "--model", keyword_onnx)
    assert verified.status == 0, verified.err


def test_an_empty_folder_and_none_are_refused(compile_with: Callable, tmp_path: Path) -> None:
    for folder in (tmp_path / "empty", tmp_path / "none"):
        if folder.name == "empty":
            folder.mkdir()
        refused(compile_with(folder), f"{folder} holds no records: make some with bicompile tune")


def test_another_folder_is_refused(compile_with: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of something else")
    refused(compile_with(tmp_path), f"{tmp_path} is no folder of records (no {ABOUT} in it)")


def test_a_file_is_refused(compile_with: Callable, records: Path) -> None:
    refused(compile_with(records / ABOUT), "is a file; give the folder of bicompile tune --records")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "bicompile-records/1"}'])
def test_what_damaged_records_say_of_themselves_is_refused(
    compile_with: Callable, records: Path, text: str
) -> None:
    (records / ABOUT).write_text(text)
    refused(compile_with(records), f"{ABOUT} is damaged", "tune again into another folder")


@pytest.mark.parametrize("name", [TRIALS, WORKLOADS])
@pytest.mark.parametrize(
    "text", ["garbage\n", '[0, "x"]\n', "\x00\xff\n", "{}\n", "[99, []]\n", "[0, []]\n"]
)
def test_a_damaged_database_is_refused(
    compile_with: Callable, records: Path, name: str, text: str
) -> None:
    (records / name).write_text(text)
    refused(compile_with(records), "is damaged", "tune again into another folder")


def test_a_database_without_its_workloads_is_refused(compile_with: Callable, records: Path) -> None:
    (records / WORKLOADS).unlink()
    refused(compile_with(records), "is damaged", "tune again into another folder")


def test_records_without_a_trial_are_refused(compile_with: Callable, records: Path) -> None:
    (records / TRIALS).write_text("")
    refused(compile_with(records), "holds no records")


def test_records_of_another_tvm_are_refused(compile_with: Callable, records: Path) -> None:
    with_about(records, versions={"apache-tvm": "0.18.0"})
    refused(
        compile_with(records),
        f"the records in {records} are of TVM 0.18.0, this is {version('apache-tvm')}",
    )


def test_records_of_another_format_are_refused(compile_with: Callable, records: Path) -> None:
    with_about(records, format="bicompile-records/9")
    refused(compile_with(records), "has the format 'bicompile-records/9', this version reads")


def test_records_of_another_target_are_refused(compile_with: Callable, records: Path) -> None:
    ended = compile_with(records, target="cortex-a72")
    refused(ended, "fits this model and cortex-a72", "left out (tuned for cortex-a53)")


def test_records_of_another_network_are_refused(
    compile_with: Callable, bicompile: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    options = ("--target", "cortex-a53", "--records", other, "--trials", 1)
    assert bicompile("tune", "--shapes", "128,16,2", *options).status == 0
    refused(compile_with(other), "there is no record of it", "tune this model for this target")
    assert not (tmp_path / "artifact").exists()


def test_kernels_without_records_are_named_and_keep_their_defaults(
    compile_with: Callable, records: Path, keyword_onnx: Path
) -> None:
    lines = (records / TRIALS).read_text().splitlines(keepends=True)
    (records / TRIALS).write_text("".join(line for line in lines if json.loads(line)[0] == 0))
    ended = compile_with(records)
    assert ended.status == 0
    first, *others = kernels_of_model(str(keyword_onnx), A53)
    for name in others:
        assert f"warning: {name}: there is no record of it" in ended.out
    assert f"warning: {first}" not in ended.out


def test_a_last_line_that_was_not_finished_is_dropped(records: Path) -> None:
    whole = (records / TRIALS).read_text()
    (records / TRIALS).write_text(whole + whole[:100])
    open_records([str(records)], A53)
    assert (records / TRIALS).read_text() == whole


def test_tuning_into_records_of_another_unit_is_refused(
    bicompile: Run, records: Path, keyword_onnx: Path
) -> None:
    options = ("--target", "host", "--device", "host", "--records", records)
    refused(
        bicompile("tune", keyword_onnx, *options),
        f"{records} holds modelled cycles (the in-order model",
        "choose another folder",
    )


def test_two_tunings_do_not_write_one_folder_at_once(
    bicompile: Run, records: Path, keyword_onnx: Path
) -> None:
    before = (records / TRIALS).read_text()
    options = ("--target", "cortex-a53", "--records", records, "--trials", "1000")
    with written_alone(records):
        ended = bicompile("tune", keyword_onnx, *options)
    refused(ended, f"{records} is being written by another tuning")
    assert (records / TRIALS).read_text() == before


def test_a_model_without_a_binary_layer_is_refused(bicompile: Run, tmp_path: Path) -> None:
    import networks
    import onnx

    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    options = ("--target", "cortex-a53", "--records", tmp_path / "records")
    ended = bicompile("tune", tmp_path / "float.onnx", *options)
    refused(ended, "float.onnx has no kernel that can be tuned")
    assert not (tmp_path / "records").exists()


def test_the_emulator_takes_no_other_processor(bicompile: Run, tmp_path: Path) -> None:
    if find_target("host").arch == "aarch64":
        pytest.skip("this machine is arm64")
    options = ("--target", "host", "--records", tmp_path / "records")
    ended = bicompile("tune", "--shapes", "128,16,2", *options)
    refused(ended, "the emulator runs arm64, host is x86_64: give --device host")


def test_this_machine_takes_no_other_processor(bicompile: Run, tmp_path: Path) -> None:
    if find_target("host").arch == "aarch64":
        pytest.skip("this machine is arm64")
    options = ("--target", "cortex-a53", "--device", "host", "--records", tmp_path / "records")
    ended = bicompile("tune", "--shapes", "128,16,2", *options)
    refused(ended, "cortex-a53 is aarch64, this machine is x86_64: give --device emulator")


def test_the_zoos_records_are_of_its_network_and_still_true(tmp_path: Path) -> None:
    (records,) = open_records(["zoo"], A53)
    meter = EmulatorMeter(A53)
    for name, kernel in kernels_of_model("zoo:bifsmnv2-kws12", A53).items():
        assert records.best(kernel.nest, A53) is not None, name
        bench = Bench(name, kernel.nest, A53)
        for trial in records.trials(kernel.nest, A53):
            executable = bench.build(decide(kernel.nest, trial.decisions), tmp_path / "kernel.o")
            cost = meter.measure(bench, executable)
            assert cost == trial.cost, f"{name} costs something else: see docs/tuning.md"


def test_a_target_without_records_in_the_zoo_is_refused(compile_with: Callable) -> None:
    ended = compile_with("zoo", target="neoverse-n1")
    refused(ended, "the zoo has no records for neoverse-n1, it has them for cortex-a53")
