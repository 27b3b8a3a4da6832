"""The whole compile as one list of steps: load, passes, lower, schedule, plan, build, artifact."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx

from bicompile import toolchain
from bicompile.artifact import Artifact, Executable, TensorSpec, read_artifact, write_artifact
from bicompile.build import build_object
from bicompile.calls import KernelCall, describe_calls, name_functions, to_json
from bicompile.check_object import check_object
from bicompile.driver import ENTRY, header_source
from bicompile.explain import Explanation, explain
from bicompile.files import atomic_folder
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.program import Program
from bicompile.records import load_records, records_folder, schedules_of, with_records
from bicompile.rewriting import run_passes
from bicompile.scheduling import schedule_program
from bicompile.targets import Target
from bicompile.zoo import onnx_file

_PACKAGES = ("bicompile", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "ziglang")


@dataclass(frozen=True)
class Compiled:
    """An artifact and what became of each layer of its model."""

    artifact: Artifact
    explanation: Explanation
    left_out: tuple[str, ...] = ()
    """Why tuning records of a kernel are not used, a sentence each."""


def compile_model(
    source: str,
    target: Target,
    out: Path,
    *,
    width: int | None = None,
    sign_of_zero: SignOfZero = "strict",
    check: bool = True,
    dump_ir: Path | None = None,
    records: str | None = None,
) -> Compiled:
    """Compile a model (see zoo.onnx_file) and write the artifact folder `out`.

    `sign_of_zero` is what a Sign gives at 0: `strict` as in ONNX, `plus` +1, `minus` −1 (see the
    pass of that name). With `check` the graph is run before and after every pass and must give the
    same, and so must the object in the end. `dump_ir` takes the graph after every pass (see
    rewriting.run_passes). `records` is a folder of `bicompile tune`, or `zoo` (see
    records.with_records). Raises UserError for what is not accepted; `out` is then as it was.
    """
    tuned = None if records is None else load_records(records_folder(records, target))
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, sign_of_zero=sign_of_zero, check=check, dump_ir=dump_ir)
    explanation = explain(name, traced, lowered)
    nests = lower(lowered)
    applied = None if tuned is None else with_records(nests, target, tuned)
    nests = nests if applied is None else applied.program
    explanation, calls, program = _schedule(explanation, lowered, nests, target)
    report = {**explanation.to_json(), "calls": to_json(calls)}
    plan = plan_memory(program)
    entry_input, entry_output = tensor_specs(lowered, program)
    labels = tuple(json.loads(_property(lowered, "bicompile.labels") or "[]"))
    with atomic_folder(out, replaces="manifest.json") as folder:
        build_object(program, plan, target, folder / "model.o")
        if check:
            check_object(
                Executable(
                    folder / "model.o",
                    ENTRY,
                    entry_input,
                    entry_output,
                    plan.workspace_bytes,
                    target,
                ),
                lowered,
            )
        toolchain.archive(folder / "model.o", folder / "libmodel.a")
        header = header_source(entry_input, entry_output, plan.workspace_bytes, labels)
        (folder / "model.h").write_text(header)
        (folder / "lowered.onnx").write_bytes(lowered.SerializeToString(deterministic=True))
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        write_artifact(
            folder,
            target=target,
            entry=ENTRY,
            input=entry_input,
            output=entry_output,
            workspace_bytes=plan.workspace_bytes,
            labels=labels,
            source=name,
            versions={package: version(package) for package in _PACKAGES},
            schedules=schedules_of(nests, target.arch),
        )
    left_out = {} if applied is None else applied.left_out
    return Compiled(
        read_artifact(out), explanation, tuple(f"{of}: {why}" for of, why in left_out.items())
    )


def explain_kernels(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Explanation:
    """As explain.explain_model, with the functions that a compile for a target would call.

    Raises UserError for what is not accepted, also by a compile.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=False, sign_of_zero=sign_of_zero)
    return _schedule(explain(name, traced, lowered), lowered, lower(lowered), target)[0]


def _schedule(
    explanation: Explanation, lowered: onnx.ModelProto, nests: Program, target: Target
) -> tuple[Explanation, list[KernelCall], Program]:
    """The layers with their functions, the kernel calls, and the scheduled program."""
    calls = describe_calls(nests, lowered, explanation)
    program = schedule_program(nests, target.arch)
    return name_functions(explanation, calls, program), calls, program


def tensor_specs(model: onnx.ModelProto, program: Program) -> tuple[TensorSpec, TensorSpec]:
    """The entry's input and output, named as in the model."""
    return (
        TensorSpec(model.graph.input[0].name, program.buffers[program.input].shape),
        TensorSpec(model.graph.output[0].name, program.buffers[program.output].shape),
    )


def _property(model: onnx.ModelProto, key: str) -> str | None:
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)
