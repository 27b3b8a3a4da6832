"""The plan of a compile: its kernel calls in order, the buffers between them, what is moved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bicompile.calls import KernelCall
from bicompile.memory import Plan
from bicompile.program import Program


@dataclass(frozen=True)
class Step:
    """One kernel call.

    Attributes:
        function: of the object, that does the work.
        layer: the layer of the source model that it works for; empty where there is none.
        reads: the buffers that it reads.
        writes: those that it writes, what it needs for itself among them.
        constant_bytes: of the constants that it reads, as they lie before they are laid out.
        moved_bytes: of the buffers that it reads and writes, each once.
    """

    function: str
    layer: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constant_bytes: int
    moved_bytes: int


@dataclass(frozen=True)
class Place:
    """A buffer.

    Attributes:
        name: as steps say it.
        shape: in elements.
        dtype: of an element.
        size: in bytes.
        offset: in bytes, into the workspace; None where the caller holds it.
        first: the first step that names it, from 0.
        last: the last one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    offset: int | None
    first: int
    last: int


@dataclass(frozen=True)
class Planned:
    """A program as it will run.

    Attributes:
        model: the name of the source model.
        target: the processor it is for.
        steps: in their order.
        places: of the buffers, in the order of their first steps.
        workspace_bytes: what the caller must give.
        live_bytes: the most that buffers of the workspace take which live at one step, aligned: no
            plan of these steps needs less.
    """

    model: str
    target: str
    steps: tuple[Step, ...]
    places: tuple[Place, ...]
    workspace_bytes: int
    live_bytes: int

    @property
    def constant_bytes(self) -> int:
        """Of the constants that all steps read."""
        return sum(step.constant_bytes for step in self.steps)

    @property
    def moved_bytes(self) -> int:
        """Of the buffers that all steps read and write."""
        return sum(step.moved_bytes for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """What `explain --plan --json` prints: these keys stay, more may come."""
        sums = {"constant_bytes": self.constant_bytes, "moved_bytes": self.moved_bytes}
        return {**asdict(self), **sums}


def planned(
    model: str, target: str, calls: Sequence[KernelCall], scheduled: Program, memory: Plan
) -> Planned:
    """The plan of a scheduled program, whose calls have been described before it was scheduled."""
    buffers = scheduled.buffers
    named: dict[str, list[int]] = {}
    steps = []
    for number, (call, told) in enumerate(zip(scheduled.calls, calls, strict=True)):
        reads = tuple(dict.fromkeys(name for name in call.inputs if name in buffers))
        for name in (*reads, *call.outputs):
            named.setdefault(name, []).append(number)
        size = sum(buffers[name].nbytes for name in (*reads, *call.outputs))
        function = scheduled.functions.get(call.kernel, call.kernel)
        steps.append(Step(function, told.layer, reads, call.outputs, told.constant_bytes, size))
    places = tuple(
        Place(
            name,
            buffers[name].shape,
            buffers[name].dtype,
            buffers[name].nbytes,
            memory.offsets.get(name),
            numbers[0],
            numbers[-1],
        )
        for name, numbers in named.items()
    )
    return Planned(model, target, tuple(steps), places, memory.workspace_bytes, memory.live_bytes)
