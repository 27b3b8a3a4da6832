"""The whole compile as one list of steps: load, passes, lower, schedule, plan, build, artifact."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from bicompile import toolchain
from bicompile.artifact import (
    OBJECT,
    Artifact,
    Executable,
    TensorSpec,
    of_width,
    read_artifact,
    write_artifact,
)
from bicompile.branches import Branch, branches_of, lower_widths
from bicompile.build import build_branches
from bicompile.calibration import DEFAULT, Agreement, agreement, read_calibration
from bicompile.calls import KernelCall, describe_calls, name_functions, to_json, with_unpacking
from bicompile.check_object import check_object
from bicompile.driver import ENTRY, header_source, workspace_bytes
from bicompile.errors import UserError
from bicompile.explain import Explanation, explain
from bicompile.files import atomic_folder
from bicompile.footprint import Footprint, footprint
from bicompile.load import load_model
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.planned import Planned, planned
from bicompile.program import Program
from bicompile.records import load_records, records_folder, schedules_of, with_records
from bicompile.rewriting import run_passes
from bicompile.smaller import ClassifierBits, Constants, make_smaller
from bicompile.targets import Target
from bicompile.zoo import name_of, onnx_file

_PACKAGES = ("bicompile", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "ziglang")


@dataclass(frozen=True)
class Compiled:
    """An artifact, and what became of its model.

    Attributes:
        artifact: as it was written.
        explanations: of each layer, for every width.
        footprint: what the object takes.
        agreements: with what it was without the options that change a network, for every width;
            None without such options.
        left_out: why tuning records of a kernel are not used, a sentence each.
    """

    artifact: Artifact
    explanations: tuple[Explanation, ...]
    footprint: Footprint
    agreements: tuple[Agreement | None, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Width:
    """One width of a model: as it was loaded, what the passes made of it, and its kernel calls."""

    traced: onnx.ModelProto
    lowered: onnx.ModelProto
    explanation: Explanation
    agreement: Agreement | None
    calls: Sequence[KernelCall] = ()


def compile_model(
    source: str,
    target: Target,
    out: Path,
    *,
    widths: Sequence[int] | None = None,
    sign_of_zero: SignOfZero = "strict",
    constants: Constants = "float32",
    classifier: ClassifierBits = "float32",
    calibration: str | None = None,
    check: bool = True,
    dump_ir: Path | None = None,
    records: str | None = None,
) -> Compiled:
    """Compile a model (see zoo.onnx_file) and write the artifact folder `out`.

    `widths` are those of the network that the artifact has, the first its default; with several of
    them the entry takes the width. `sign_of_zero` is what a Sign gives at 0: `strict` as in ONNX,
    `plus` +1, `minus` −1 (see the pass of that name). `constants` and `classifier` make the object
    smaller and the network another one (see smaller); how often it answers as before is measured on
    `calibration` (see calibration.read_calibration; by default its DEFAULT). With `check` the graph
    is run before and after every pass and must give the same, and so must the object in the end.
    `dump_ir` takes the graph after every pass (see rewriting.run_passes), those of several widths
    in folders `widthN`.
    `records` is a folder of `bicompile tune`, or `zoo` (see records.with_records). Raises UserError
    for what is not accepted; `out` is then as it was.
    """
    if calibration is not None and constants == classifier == "float32":
        raise UserError(
            f"nothing is measured on the calibration set {calibration} without --constants float16 "
            "or --classifier int8: give one of them, or no --calibration"
        )
    tuned = None if records is None else load_records(records_folder(records, target))
    chosen = tuple(dict.fromkeys(widths or ()))
    numbers: Sequence[int | None] = chosen if len(chosen) > 1 else (None,)

    def lowered_at(width: int | None, number: int | None) -> _Width:
        with onnx_file(source, width) as (path, name):
            traced = load_model(path)
        folder = dump_ir if dump_ir is None or number is None else dump_ir / f"width{number}"
        lowered = run_passes(traced, sign_of_zero=sign_of_zero, check=check, dump_ir=folder)
        explanation = explain(name, traced, lowered)
        smaller = make_smaller(lowered, constants=constants, classifier=classifier)
        if smaller == lowered:
            return _Width(traced, lowered, explanation, None)
        inputs = read_calibration(calibration or DEFAULT, _input_shape(lowered))
        found = agreement(lowered, smaller, inputs)
        return _Width(traced, smaller, explanation, found)

    each = [lowered_at(w, n) for w, n in zip(chosen or (None,), numbers, strict=True)]
    nests = lower_widths({n: made.lowered for n, made in zip(numbers, each, strict=True)})
    applied = [] if tuned is None else [with_records(n, target, tuned) for n in nests.values()]
    if applied:
        nests = {number: found.program for number, found in zip(nests, applied, strict=True)}
    branches = branches_of(nests, target.arch)
    each = [_named(made, nests[b.width], b) for made, b in zip(each, branches, strict=True)]
    first = each[0].lowered
    entry_input, entry_output = tensor_specs(first, branches[0].program)
    labels = tuple(json.loads(_property(first, "bicompile.labels") or "[]"))
    several = tuple(number for number in numbers if number is not None)
    needed = workspace_bytes(branches)
    with atomic_folder(out, replaces="manifest.json") as folder:
        build_branches(branches, target, folder / OBJECT)
        executable = Executable(folder / OBJECT, ENTRY, entry_input, entry_output, needed, target)
        if check:
            for branch, made in zip(branches, each, strict=True):
                check_object(replace(executable, width=branch.width), made.lowered)
        toolchain.archive(folder / OBJECT, folder / "libmodel.a")
        taken = footprint(executable, branches, [made.traced for made in each])
        header = header_source(entry_input, entry_output, needed, labels, several)
        (folder / "model.h").write_text(header)
        for branch, made, memory in zip(branches, each, taken.memory, strict=True):
            number = branch.width
            graph = made.lowered.SerializeToString(deterministic=True)
            (folder / of_width("lowered.onnx", number)).write_bytes(graph)
            calls = with_unpacking(made.calls, branch.program)
            report = {
                **made.explanation.to_json(),
                "memory": asdict(memory),
                "agreement": made.agreement and asdict(made.agreement),
                "calls": to_json(calls),
            }
            text = json.dumps(report, indent=2) + "\n"
            (folder / of_width("report.json", number)).write_text(text)
        write_artifact(
            folder,
            target=target,
            entry=ENTRY,
            input=entry_input,
            output=entry_output,
            workspace_bytes=needed,
            labels=labels,
            widths=several,
            source=name_of(source) if several else each[0].explanation.model,
            versions={package: version(package) for package in _PACKAGES},
            schedules={
                kernel: decided
                for program in nests.values()
                for kernel, decided in schedules_of(program, target.arch).items()
            },
        )
    left_out = {of: why for found in applied for of, why in found.left_out.items()}
    return Compiled(
        read_artifact(out),
        tuple(made.explanation for made in each),
        taken,
        tuple(made.agreement for made in each),
        tuple(f"{of}: {why}" for of, why in left_out.items()),
    )


def explain_kernels(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Explanation:
    """As explain.explain_model, with the functions that a compile for a target would call.

    Raises UserError for what is not accepted, also by a compile.
    """
    return _scheduled(source, target, width, sign_of_zero)[0].explanation


def explain_plan(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Planned:
    """The kernel calls, buffers and memory of a compile for a target; raises as explain_kernels."""
    made, branch = _scheduled(source, target, width, sign_of_zero)
    return planned(made.explanation.model, target.name, made.calls, branch.program, branch.plan)


def _scheduled(
    source: str, target: Target, width: int | None, sign_of_zero: SignOfZero
) -> tuple[_Width, Branch]:
    """One width of a model as a compile without options would schedule it."""
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, check=False, sign_of_zero=sign_of_zero)
    made = _Width(traced, lowered, explain(name, traced, lowered), None)
    nests = lower_widths({None: lowered})
    (branch,) = branches_of(nests, target.arch)
    return _named(made, nests[None], branch), branch


def _named(made: _Width, nests: Program, branch: Branch) -> _Width:
    """The width with its kernel calls, and with the functions that compute its layers."""
    calls = describe_calls(nests, made.lowered, made.explanation)
    explanation = name_functions(made.explanation, calls, branch.program)
    return replace(made, explanation=explanation, calls=calls)


def tensor_specs(model: onnx.ModelProto, program: Program) -> tuple[TensorSpec, TensorSpec]:
    """The entry's input and output, named as in the model."""
    return (
        TensorSpec(model.graph.input[0].name, program.buffers[program.input].shape),
        TensorSpec(model.graph.output[0].name, program.buffers[program.output].shape),
    )


def _input_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)


def _property(model: onnx.ModelProto, key: str) -> str | None:
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)
