"""Program → scheduled program: every kernel fast, and what it needs for itself in the workspace."""

import dataclasses
from collections.abc import Mapping, Sequence

from tvm import s_tir, tirx

from bicompile.program import Buffer, Call, Layout, Program
from bicompile.schedules import schedule

_LARGEST_ON_STACK = 256
"""Bytes; a larger buffer of a kernel's own becomes part of the caller's workspace."""


@dataclasses.dataclass(frozen=True)
class _Scheduled:
    """A kernel, the buffers it has for itself, and what it brings beside them."""

    function: tirx.PrimFunc
    scratch: Sequence[Buffer]
    assembly: Mapping[str, str]
    works: str
    """The function that does its work: see Program.functions."""
    layouts: Mapping[int, Layout]


def schedule_program(program: Program, arch: str) -> Program:
    """Schedule every kernel for an architecture ("aarch64" or "x86_64").

    Kernels keep their names and attributes. A buffer that a kernel allocates for itself becomes
    one more output of its calls, so that the memory plan places it and the stack stays small.
    """
    return schedule_programs([program], arch)[0]


def schedule_programs(programs: Sequence[Program], arch: str) -> list[Program]:
    """Schedule programs in which equal names mean equal kernels: each kernel once."""
    kernels = {name: kernel for program in programs for name, kernel in program.kernels.items()}
    made = {name: schedule(kernel, arch) for name, kernel in kernels.items()}
    brought = {name for kernel in made.values() if not kernel.stand_in for name in kernel.assembly}
    known = {}
    for name, kernel in made.items():
        other = kernel.stand_in() if kernel.stand_in and brought else kernel
        if other.assembly.keys() <= brought:
            kernel = other
        works = next(iter(kernel.assembly), name)
        known[name] = _Scheduled(
            *_hoist_scratch(kernel.function), kernel.assembly, works, kernel.layouts
        )
    return [_with_kernels(program, known) for program in programs]


def _with_kernels(program: Program, known: Mapping[str, _Scheduled]) -> Program:
    scheduled = {name: known[name] for name in program.kernels}
    buffers = dict(program.buffers)
    calls = []
    for position, call in enumerate(program.calls):
        names = []
        for index, buffer in enumerate(scheduled[call.kernel].scratch):
            names.append(f"scratch{position}_{index}")
            buffers[names[-1]] = buffer
        calls.append(Call(call.kernel, call.inputs, (*call.outputs, *names), call.layer))
    return dataclasses.replace(
        program,
        kernels={name: made.function for name, made in scheduled.items()},
        buffers=buffers,
        calls=tuple(calls),
        microkernels={k: text for made in scheduled.values() for k, text in made.assembly.items()},
        functions={name: made.works for name, made in scheduled.items()},
        layouts={name: made.layouts for name, made in scheduled.items()},
    )


def _hoist_scratch(function: tirx.PrimFunc) -> tuple[tirx.PrimFunc, list[Buffer]]:
    """Make large allocations of the root block parameters; also returns what they hold."""
    root = function.body.block
    large, small = [], []
    for allocated in root.alloc_buffers:
        buffer = Buffer(tuple(int(dim) for dim in allocated.ty.shape), str(allocated.ty.dtype))
        if buffer.nbytes > _LARGEST_ON_STACK:
            large.append((allocated, buffer))
        else:
            small.append(allocated)
    if not large:
        return function, []
    block = s_tir.SBlock(
        [], [], [], root.name_hint, root.body, None, small, root.match_buffers, root.annotations
    )
    body = s_tir.SBlockRealize([], True, block)
    parameters = [*function.params, *(allocated for allocated, _ in large)]
    hoisted = tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
    return hoisted, [buffer for _, buffer in large]
