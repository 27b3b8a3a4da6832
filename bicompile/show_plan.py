"""What `explain --plan` prints: for people, or with --json for programs."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bicompile.planned import Place, Planned


def plan(found: "Planned", *, as_json: bool) -> None:
    """A line a call, a line a buffer, and the sums."""
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    print(f"{found.model} for {found.target}")
    width = max(len(step.function) for step in found.steps)
    print(f"{'call':>4}  {'kernel':{width}}  {'constants':>9}  {'moved':>6}  {'buffers':24}  layer")
    for number, step in enumerate(found.steps):
        buffers = f"{' '.join(step.reads)} > {' '.join(step.writes)}"
        line = (
            f"{number:4}  {step.function:{width}}  {step.constant_bytes:9}  "
            f"{step.moved_bytes:6}  {buffers:24}  {step.layer}"
        )
        print(line.rstrip())
    print()
    print(f"{'buffer':12}  {'bytes':>6}  {'at':>8}  {'calls':>8}  holds")
    for place in found.places:
        at = "caller's" if place.offset is None else place.offset
        calls = f"{place.first} to {place.last}"
        print(f"{place.name:12}  {place.size:6}  {at:>8}  {calls:>8}  {_holds(place)}")
    print()
    print(
        f"{len(found.steps)} calls of {len({step.function for step in found.steps})} kernels read "
        f"{found.constant_bytes} bytes of constants and move {found.moved_bytes} bytes of buffers"
    )
    print(f"workspace: {found.workspace_bytes} bytes; {found.live_bytes} live at once")


def _holds(place: "Place") -> str:
    return f"{place.dtype}[{','.join(map(str, place.shape))}]"
