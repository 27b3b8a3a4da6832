"""A program between its steps: the graph before and after the passes, a kernel before and after."""

from dataclasses import dataclass

import onnx

from bicompile.branches import lower_widths
from bicompile.errors import UserError
from bicompile.explain import explain
from bicompile.graph_text import graph_text
from bicompile.reporting.measured import Measured
from bicompile.scheduling import schedule_program


@dataclass(frozen=True)
class Step:
    """What one step of the compile takes and gives, as text.

    Attributes:
        name: of the step.
        before: what it takes; None where the artifact does not tell it.
        after: what it gives.
    """

    name: str
    before: str | None
    after: str


def steps_of(measured: Measured, traced: onnx.ModelProto | None, core: str) -> list[Step]:
    """The passes and, for the kernel that takes the most cycles, its schedule.

    `traced` is the graph that the artifact was compiled from, if it is at hand. Raises UserError
    where it has other layers than report.json tells.
    """
    artifact = measured.artifact
    lowered = onnx.load(artifact.lowered)
    if traced is not None:
        _check_source(measured, traced, lowered)
    passes = Step(
        "The graph before and after the passes",
        None if traced is None else graph_text(traced),
        graph_text(lowered),
    )
    graphs = {width: onnx.load(artifact.at(width).lowered) for width in artifact.widths or (None,)}
    nests = lower_widths(graphs)[artifact.width]  # all of them, for the names of the kernels
    scheduled = schedule_program(nests, artifact.target.arch)
    rows = measured.run.kernels(measured.calls)
    spent = {row.name: row.modelled_cycles[core] for row in rows}
    dearest = max(nests.kernels, key=lambda name: spent.get(name, 0))
    after = scheduled.kernels[dearest].script()
    microkernel = scheduled.microkernels.get(scheduled.functions[dearest])
    if microkernel is not None:
        after += f"\n\n{microkernel}"
    return [
        passes,
        Step(f"The kernel {dearest}, scheduled", nests.kernels[dearest].script(), after),
    ]


def _check_source(measured: Measured, traced: onnx.ModelProto, lowered: onnx.ModelProto) -> None:
    found = {layer.name for layer in explain("", traced, lowered).layers}
    ours = {part.name for part in measured.parts if part.is_layer}
    strange = sorted(found ^ ours)
    if strange:
        raise UserError(
            f"the graph given with --model is another one: {strange[0]} is a layer of one and not "
            f"of the other; give the one that {measured.artifact.folder} was compiled from"
        )
