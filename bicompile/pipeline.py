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
from bicompile.planned import Planned, planned
from bicompile.program import Program
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


def compile_model(
    source: str,
    target: Target,
    out: Path,
    *,
    width: int | None = None,
    sign_of_zero: SignOfZero = "strict",
    check: bool = True,
    dump_ir: Path | None = None,
) -> Compiled:
    """Compile a model (see zoo.onnx_file) and write the artifact folder `out`.

    `sign_of_zero` is what a Sign gives at 0: `strict` as in ONNX, `plus` +1, `minus` −1 (see the
    pass of that name). With `check` the graph is run before and after every pass and must give the
    same, and so must the object in the end. `dump_ir` takes the graph after every pass (see
    rewriting.run_passes). Raises UserError for what is not accepted; `out` is then as it was.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, sign_of_zero=sign_of_zero, check=check, dump_ir=dump_ir)
    explanation = explain(name, traced, lowered)
    explanation, calls, program = _schedule(explanation, lowered, target)
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
        )
    return Compiled(read_artifact(out), explanation)


def explain_kernels(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Explanation:
    """As explain.explain_model, with the functions that a compile for a target would call.

    Raises UserError for what is not accepted, also by a compile.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=False, sign_of_zero=sign_of_zero)
    return _schedule(explain(name, traced, lowered), lowered, target)[0]


def explain_plan(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Planned:
    """The kernel calls, buffers and memory of a compile for a target; raises as explain_kernels."""
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=False, sign_of_zero=sign_of_zero)
    _, calls, program = _schedule(explain(name, traced, lowered), lowered, target)
    return planned(name, target.name, calls, program)


def _schedule(
    explanation: Explanation, lowered: onnx.ModelProto, target: Target
) -> tuple[Explanation, list[KernelCall], Program]:
    """The layers with their functions, the kernel calls, and the scheduled program."""
    nests = lower(lowered)
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
