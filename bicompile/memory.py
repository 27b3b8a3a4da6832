"""Where intermediate buffers lie in the workspace."""

from dataclasses import dataclass

from bicompile.program import Program

ALIGNMENT = 64
"""Bytes; the workspace and every buffer and constant begin at a multiple of this."""


@dataclass(frozen=True)
class Plan:
    """Where buffers lie.

    Attributes:
        offsets: bytes into the workspace, by the buffer's name.
        workspace_bytes: what the caller must give.
        live_bytes: the largest sum of the aligned sizes of what lives at one call: no plan of these
            calls needs less.
    """

    offsets: dict[str, int]
    workspace_bytes: int
    live_bytes: int


def align(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_memory(program: Program, *, reuse: bool = True) -> Plan:
    """Place every buffer but the caller's two: largest first, at the lowest free offset.

    Buffers that live at the same time never overlap. Without `reuse` no two buffers overlap at
    all, so that every intermediate value can be read after a run.
    """
    caller = (program.input, program.output)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, call in enumerate(program.calls):
        for name in (*call.inputs, *call.outputs):
            if name in program.buffers and name not in caller:
                first.setdefault(name, position)
                last[name] = position
    placed: list[tuple[int, int, str]] = []
    offsets: dict[str, int] = {}
    sizes = {name: align(program.buffers[name].nbytes) for name in first}
    for name in sorted(first, key=lambda n: (-sizes[n], first[n], n)):
        rivals = sorted(
            (start, end)
            for start, end, other in placed
            if not reuse or (first[other] <= last[name] and first[name] <= last[other])
        )
        offset = 0
        for start, end in rivals:
            if offset + sizes[name] <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + sizes[name], name))
    live = (
        sum(sizes[name] for name in first if first[name] <= call <= last[name])
        for call in range(len(program.calls))
    )
    peak = max((end for _, end, _ in placed), default=0)
    return Plan(offsets, peak, max(live, default=0))
