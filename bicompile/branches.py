"""One object of several widths: a branch for each, and what they have in common once.

A branch is the program of one width with its place in memory. Equal kernels have one name in all
branches and are scheduled and built once; equal constants stand once in the object (see build).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
import tvm_ffi

from bicompile.compact import compacted
from bicompile.lower import lower
from bicompile.memory import Plan, plan_memory
from bicompile.program import Program
from bicompile.scheduling import schedule_programs


@dataclass(frozen=True)
class Branch:
    """What the entry runs for one width; the width is None where there is one branch only."""

    width: int | None
    program: Program
    plan: Plan


def lower_widths(graphs: Mapping[int | None, onnx.ModelProto]) -> dict[int | None, Program]:
    """Lower every width; equal kernels have one name. Raises UserError as lower does."""
    programs = share([lower(graph) for graph in graphs.values()])
    return dict(zip(graphs, programs, strict=True))


def branches_of(
    programs: Mapping[int | None, Program], arch: str, *, reuse: bool = True
) -> tuple[Branch, ...]:
    """Schedule and place what lower_widths gave, in its order; `reuse` is that of plan_memory."""
    scheduled = [
        compacted(program, arch) if program.compact else program
        for program in schedule_programs(list(programs.values()), arch)
    ]
    return tuple(
        Branch(width, program, plan_memory(program, reuse=reuse))
        for width, program in zip(programs, scheduled, strict=True)
    )


def share(programs: Sequence[Program]) -> list[Program]:
    """The programs with one name for structurally equal kernels, and two for different ones."""
    names: dict[int, str] = {}
    shared = []
    for program in programs:
        new: dict[str, str] = {}
        for name, kernel in program.kernels.items():
            hint = re.sub(r"_\d+$", "", name)
            digest = tvm_ffi.structural_hash(kernel)
            new[name] = names.setdefault(digest, f"{hint}_{len(names)}")
        shared.append(
            replace(
                program,
                kernels={new[name]: kernel for name, kernel in program.kernels.items()},
                calls=tuple(replace(call, kernel=new[call.kernel]) for call in program.calls),
            )
        )
    return shared
