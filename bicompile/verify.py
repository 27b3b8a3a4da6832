"""Does an artifact compute what its model says? Bits, accumulators and answers, each compared."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from elftools.elf.elffile import ELFFile

from bicompile.artifact import Artifact, Executable
from bicompile.branches import Branch, branches_of, lower_widths
from bicompile.build import build_branches
from bicompile.check import session
from bicompile.devices import Device, Loaded
from bicompile.driver import workspace_bytes
from bicompile.errors import UserError
from bicompile.meaning import wrong
from bicompile.memory import Plan
from bicompile.program import Program
from bicompile.records import with_schedules

_BATCH = 25  # clips a time, so that their workspaces fit in memory


@dataclass(frozen=True)
class Disagreement:
    """A clip whose largest output is another one; the margin is what decided in the model."""

    clip: int
    expected: int
    found: int
    margin: float


@dataclass(frozen=True)
class Verification:
    """What a comparison over `clips` inputs found.

    Attributes:
        clips: how many inputs were run.
        accumulators: popcount results compared with numpy's, given the same bits: bit for bit as
            integers, and after an epilogue in float32 within its roundings, which are far less
            than one bit counted wrong makes.
        wrong_accumulators: how many of them differ.
        bits: packed bytes compared with numpy's thresholds of the same floats.
        wrong_bits: how many of them differ.
        same_outputs: whether the shipped object gives, bit for bit, what the one with readable
            intermediate values gives.
        disagreements: clips whose largest output is another than the model's.
        median_difference: median over clips of the largest difference of an output.
        instructions: of the shipped object over all clips; None where the device does not count.
    """

    clips: int
    accumulators: int
    wrong_accumulators: int
    bits: int
    wrong_bits: int
    same_outputs: bool
    disagreements: tuple[Disagreement, ...]
    median_difference: float
    instructions: int | None

    @property
    def agreement(self) -> float:
        """The share of clips with the same largest output."""
        return 1 - len(self.disagreements) / self.clips

    @property
    def passed(self) -> bool:
        """Whether all that must be exact is exact and 99.5 % of the answers agree."""
        exact = not self.wrong_accumulators and not self.wrong_bits and self.same_outputs
        return exact and self.agreement >= 0.995


def verify(
    artifact: Artifact, device: Device, inputs: np.ndarray, model: onnx.ModelProto
) -> Verification:
    """Run an artifact at its width on a device, and `model` in onnxruntime, on the same inputs.

    The shipped object reuses its workspace, so intermediate values are read from a second object:
    the same program with a place of its own for every buffer. Its kernels must be the shipped
    ones, byte for byte. Raises UserError when they are not, or when the model takes other inputs.
    """
    _check_same_input(artifact, model)
    graphs = {width: onnx.load(artifact.at(width).lowered) for width in artifact.widths or [None]}
    nests = lower_widths(graphs)
    nests = {n: with_schedules(program, artifact.schedules) for n, program in nests.items()}
    branches = branches_of(nests, artifact.target.arch, reuse=False)
    (branch,) = (branch for branch in branches if branch.width == artifact.width)
    with tempfile.TemporaryDirectory() as folder:
        readable = _readable(artifact, branches, Path(folder))
        with device.load(artifact.executable) as shipped, device.load(readable) as open_object:
            return _compare(branch.program, branch.plan, shipped, open_object, inputs, model)


def _check_same_input(artifact: Artifact, model: onnx.ModelProto) -> None:
    given = model.graph.input[0]
    shape = tuple(dim.dim_value for dim in given.type.tensor_type.shape.dim)
    if shape != artifact.input.shape:
        raise UserError(
            f"the model takes {given.name} of shape {shape}, {artifact.folder} takes "
            f"{artifact.input.shape}; give the model it was compiled from"
        )


def _readable(artifact: Artifact, branches: Sequence[Branch], folder: Path) -> Executable:
    obj = folder / "model.o"
    build_branches(branches, artifact.target, obj)
    if _kernels(obj) != _kernels(artifact.executable.object):
        raise UserError(
            f"{artifact.folder} was compiled by another version: its kernels are not those that "
            f"this bicompile builds from its {artifact.lowered.name}; compile it again, then verify"
        )
    return replace(artifact.executable, object=obj, workspace_bytes=workspace_bytes(branches))


def _kernels(obj: Path) -> dict[str, bytes]:
    """The code of every local function: all but the entry."""
    with obj.open("rb") as file:
        elf = ELFFile(file)
        code = elf.get_section_by_name(".text").data()
        return {
            symbol.name: code[symbol["st_value"] : symbol["st_value"] + symbol["st_size"]]
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_info"]["bind"] == "STB_LOCAL"
        }


def _compare(
    program: Program,
    plan: Plan,
    shipped: Loaded,
    open_object: Loaded,
    inputs: np.ndarray,
    model: onnx.ModelProto,
) -> Verification:
    reference = session(model)
    name = model.graph.input[0].name
    counts = {"int32": [0, 0], "float32": [0, 0], "uint8": [0, 0]}
    same, instructions = True, 0
    counted = True
    differences: list[float] = []
    disagreements: list[Disagreement] = []
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        result, opened = shipped.run(batch), open_object.run(batch, keep_workspace=True)
        same &= np.array_equal(result.outputs, opened.outputs, equal_nan=True)
        counted &= result.instructions is not None
        instructions += sum(result.instructions or ())
        for index, x in enumerate(batch):
            assert opened.workspaces is not None
            workspace = opened.workspaces[index]
            _check_binary_kernels(program, plan, x, opened.outputs[index], workspace, counts)
            expected = reference.run(None, {name: x})[0].ravel()
            found = result.outputs[index].ravel()
            differences.append(float(np.abs(expected - found).max()))
            if expected.argmax() != found.argmax():
                best, second = np.sort(expected)[::-1][:2]
                disagreements.append(
                    Disagreement(
                        start + index,
                        int(expected.argmax()),
                        int(found.argmax()),
                        float(best - second),
                    )
                )
    return Verification(
        clips=len(inputs),
        accumulators=counts["int32"][0] + counts["float32"][0],
        wrong_accumulators=counts["int32"][1] + counts["float32"][1],
        bits=counts["uint8"][0],
        wrong_bits=counts["uint8"][1],
        same_outputs=same,
        disagreements=tuple(disagreements),
        median_difference=float(np.median(differences)),
        instructions=instructions if counted else None,
    )


def _check_binary_kernels(
    program: Program,
    plan: Plan,
    x: np.ndarray,
    y: np.ndarray,
    workspace: np.ndarray,
    counts: dict[str, list[int]],
) -> None:
    """Compute every binary kernel in numpy from what the device gave it; add to the counts."""

    def value(name: str) -> np.ndarray:
        name = program.unpacked.get(name, name)
        if name == program.input:
            return x
        if name == program.output:
            return y
        if name in program.constants:
            return program.constants[name]
        buffer = program.buffers[name]
        start = plan.offsets[name]
        return workspace[start : start + buffer.nbytes].view(buffer.dtype).reshape(buffer.shape)

    for call in program.calls:
        operands = [value(name) for name in call.inputs]
        results = [value(name) for name in call.outputs]
        count = wrong(program.kernels[call.kernel], operands, results)
        if count is None:
            continue
        of_dtype = counts[str(results[0].dtype)]
        of_dtype[0] += results[0].size
        of_dtype[1] += count
