"""The whole compile as one list of steps: load, passes, lower, schedule, plan, build, artifact."""

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import onnx_ir as ir

from bicompile import toolchain
from bicompile.artifact import Artifact, TensorSpec, read_artifact, write_artifact
from bicompile.build import build_object
from bicompile.check import check_inputs, check_pass
from bicompile.driver import ENTRY, header_source
from bicompile.files import atomic_folder
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.ops import DOMAIN, VERSION, function_protos
from bicompile.passes import PASSES
from bicompile.program import Program
from bicompile.report import Layer, read_layers
from bicompile.scheduling import schedule_program
from bicompile.targets import Target
from bicompile.zoo import onnx_file

_PACKAGES = ("bicompile", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "ziglang")


@dataclass(frozen=True)
class Compiled:
    """An artifact and what became of each layer of its model."""

    artifact: Artifact
    layers: list[Layer]


def compile_model(
    source: str,
    target: Target,
    out: Path,
    *,
    width: int | None = None,
    check: bool = True,
    dump_ir: Path | None = None,
) -> Compiled:
    """Compile a model (see zoo.onnx_file) and write the artifact folder `out`.

    With `check` the graph is run before and after every pass and must give the same. `dump_ir`
    takes the graph after every pass as `NN-name.onnx`. Raises UserError for what is not accepted;
    `out` is then as it was.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=check, dump_ir=dump_ir)
    program = schedule_program(lower(lowered), target.arch)
    plan = plan_memory(program)
    entry_input, entry_output = tensor_specs(lowered, program)
    labels = tuple(json.loads(_property(lowered, "bicompile.labels") or "[]"))
    layers = read_layers(lowered)
    with atomic_folder(out, replaces="manifest.json") as folder:
        build_object(program, plan, target, folder / "model.o")
        toolchain.archive(folder / "model.o", folder / "libmodel.a")
        header = header_source(entry_input, entry_output, plan.workspace_bytes, labels)
        (folder / "model.h").write_text(header)
        (folder / "lowered.onnx").write_bytes(lowered.SerializeToString(deterministic=True))
        report = {"layers": [dataclasses.asdict(layer) for layer in layers]}
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
    return Compiled(read_artifact(out), layers)


def run_passes(
    traced: onnx.ModelProto, *, check: bool, dump_ir: Path | None = None
) -> onnx.ModelProto:
    """Apply every pass in order; after each the graph is valid and, with `check`, the same."""
    model = ir.from_proto(traced)
    model.opset_imports[DOMAIN] = VERSION
    for function in map(ir.from_proto, function_protos()):
        model.functions[function.identifier()] = function
    before = ir.to_proto(model)
    inputs = check_inputs(before)
    _dump(before, dump_ir, 0, "traced")
    for number, rewrite in enumerate(PASSES, start=1):
        rewrite(model)
        after = ir.to_proto(model)
        onnx.checker.check_model(after)
        if check:
            check_pass(rewrite.__name__, before, after, inputs)
        _dump(after, dump_ir, number, rewrite.__name__)
        before = after
    return before


def tensor_specs(model: onnx.ModelProto, program: Program) -> tuple[TensorSpec, TensorSpec]:
    """The entry's input and output, named as in the model."""
    return (
        TensorSpec(model.graph.input[0].name, program.buffers[program.input].shape),
        TensorSpec(model.graph.output[0].name, program.buffers[program.output].shape),
    )


def _dump(model: onnx.ModelProto, folder: Path | None, number: int, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}-{name.replace('_', '-')}.onnx").write_bytes(
            model.SerializeToString(deterministic=True)
        )


def _property(model: onnx.ModelProto, key: str) -> str | None:
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)
