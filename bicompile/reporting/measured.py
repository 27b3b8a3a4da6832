"""The figures of a report: every layer of an artifact, and the float twin's beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bicompile.artifact import Artifact
from bicompile.calls import KernelCall, read_calls
from bicompile.cost.report import Observed, Row, model_source, observe, sample_of
from bicompile.errors import UserError


@dataclass(frozen=True)
class Part:
    """A layer, a kernel that works for none, or the entry.

    Attributes:
        cost: of one run; nothing where other kernels compute it, or none.
        is_layer: whether it is a convolution or matrix product of the source model.
        binary: whether it became popcounts.
        reason: what it became, or the first condition that failed; empty where it is no layer.
        multiply_accumulates: that it computes, those of every plane of bits; 0 where it is no
            layer.
        constant_bytes: of the weights and other constants that it reads.
        moved_bytes: of the tensors that its kernels read and write.
    """

    cost: Row
    is_layer: bool
    binary: bool
    reason: str
    multiply_accumulates: int
    constant_bytes: int
    moved_bytes: int

    @property
    def name(self) -> str:
        """The layer's node in the source model, or the kernel."""
        return self.cost.name


@dataclass(frozen=True, eq=False)
class Measured:
    """One artifact, run once.

    Attributes:
        artifact: what ran.
        calls: its kernel calls, in their order.
        run: everything that was counted and modelled.
        parts: layers in the model's order, then the rest, the dearest first.
        total: of the whole run.
    """

    artifact: Artifact
    calls: Sequence[KernelCall]
    run: Observed
    parts: Sequence[Part]
    total: Row


def measure(artifact: Artifact, cores: Sequence[str]) -> Measured:
    """Run an artifact once on the emulator, for the input of sample_of.

    Raises UserError for a target that is not arm64, for a core that cannot be modelled, and for a
    report.json that tells no layers or other calls.
    """
    run = observe(artifact.executable, sample_of(artifact.executable), cores)
    calls = read_calls(artifact.report)
    rows = {row.name: row for row in run.layers(calls)}
    parts = []
    for layer in _layers(artifact):
        nothing = Row(layer["name"], 0, 0, 0, dict.fromkeys(cores, 0), 0, 0)
        row = rows.pop(layer["name"], nothing)
        products = layer["multiply_accumulates"] * max(1, layer["planes"])
        parts.append(_part(row, calls, layer["binary"], layer["reason"], products))
    parts += [_part(row, calls, False, "", 0) for row in rows.values()]
    return Measured(artifact, calls, run, parts, run.total("in all"))


def totals(ours: Measured) -> dict[int, Row]:
    """What a run takes at every width of the artifact; nothing where it has one only."""
    cores = list(ours.run.cycles)
    found = {}
    for width in ours.artifact.widths:
        if width == ours.artifact.width:
            found[width] = ours.total
            continue
        executable = ours.artifact.at(width).executable
        found[width] = observe(executable, sample_of(executable), cores).total(f"width {width}")
    return found


def check_twin(ours: Artifact, twin: Artifact) -> None:
    """Raise UserError where an artifact is no float network for the same input and output."""
    binary = sum(layer["binary"] for layer in _layers(twin))
    if binary:
        raise UserError(
            f"{twin.folder} is no float network ({binary} of its layers are binary): give the "
            "artifact of the float twin"
        )
    for what in ("input", "output"):
        mine, other = getattr(ours, what).shape, getattr(twin, what).shape
        if mine != other:
            raise UserError(
                f"the {what} of {twin.folder} has the shape {list(other)}, that of {ours.folder} "
                f"{list(mine)}: give a float network that does the same"
            )


def to_json(ours: Measured, twin: Measured | None, widths: Mapping[int, Row]) -> dict[str, Any]:
    """What report.json holds: these keys stay, more may come."""
    cores = list(ours.run.cycles)
    told = {
        "input": "standard normal numbers, always the same",
        "models": {core: model_source(core) for core in cores},
        **_told(ours),
    }
    if widths:
        told["widths"] = {str(width): _figures(total) for width, total in widths.items()}
    if twin is not None:
        told["float"] = _told(twin)
        told["float_over_ours"] = ratios(ours, twin)
    return told


def ratios(ours: Measured, twin: Measured) -> dict[str, float]:
    """How many times what we need the float twin needs: instructions, and cycles by core."""
    mine, other = ours.total, twin.total
    cycles = {
        core: other.modelled_cycles[core] / mine.modelled_cycles[core]
        for core in mine.modelled_cycles
    }
    return {"instructions": other.instructions / mine.instructions, **cycles}


def _told(measured: Measured) -> dict[str, Any]:
    artifact = measured.artifact
    return {
        "model": artifact.model,
        "target": artifact.target.name,
        "workspace_bytes": artifact.workspace_bytes,
        "total": _figures(measured.total),
        "layers": [_row(part) for part in measured.parts if part.is_layer],
        "others": [_row(part) for part in measured.parts if not part.is_layer],
    }


def _figures(row: Row) -> dict[str, Any]:
    names = ("instructions", "vector_instructions", "registers", "spills")
    cycles: Mapping[str, int] = row.modelled_cycles
    return {**{name: getattr(row, name) for name in names}, "modelled_cycles": dict(cycles)}


def _row(part: Part) -> dict[str, Any]:
    told = {name: value for name, value in asdict(part).items() if name not in ("cost", "is_layer")}
    over = {core: part.cost.over_floor(core) for core in part.cost.modelled_cycles}
    return {
        "name": part.name,
        **told,
        **_figures(part.cost),
        "over_floor": over,
        "kernels": list(part.cost.kernels),
    }


def _part(row: Row, calls: Sequence[KernelCall], binary: bool, reason: str, products: int) -> Part:
    own = [call for call in calls if row.name == (call.layer or call.node or call.kernel)]
    return Part(
        row,
        bool(reason),
        binary,
        reason,
        products,
        sum(call.constant_bytes for call in own),
        sum(call.moved_bytes for call in own),
    )


def _layers(artifact: Artifact) -> list[dict[str, Any]]:
    path = artifact.report
    try:
        told: list[dict[str, Any]] = json.loads(path.read_text())["layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} tells no layers; compile the model again with this version"
        ) from error
    return told
