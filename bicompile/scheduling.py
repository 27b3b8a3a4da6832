"""Program → scheduled program: every kernel fast, and what it needs for itself in the workspace."""

import dataclasses
from collections.abc import Mapping

from tvm import s_tir, tirx

from bicompile.program import Buffer, Call, Layout, Program
from bicompile.schedules import schedule

_LARGEST_ON_STACK = 256
"""Bytes; a larger buffer of a kernel's own becomes part of the caller's workspace."""


def schedule_program(program: Program, arch: str) -> Program:
    """Schedule every kernel for an architecture ("aarch64" or "x86_64").

    Kernels keep their names and attributes. A buffer that a kernel allocates for itself becomes
    one more output of its calls, so that the memory plan places it and the stack stays small.
    """
    kernels: dict[str, tirx.PrimFunc] = {}
    scratch: dict[str, list[Buffer]] = {}
    microkernels: dict[str, str] = {}
    functions: dict[str, str] = {}
    layouts: dict[str, Mapping[int, Layout]] = {}
    for name, kernel in program.kernels.items():
        made = schedule(kernel, arch)
        kernels[name], scratch[name] = _hoist_scratch(made.function)
        microkernels |= made.assembly
        functions[name] = next(iter(made.assembly), name)
        layouts[name] = made.layouts
    buffers = dict(program.buffers)
    calls = []
    for position, call in enumerate(program.calls):
        names = []
        for index, buffer in enumerate(scratch[call.kernel]):
            names.append(f"scratch{position}_{index}")
            buffers[names[-1]] = buffer
        calls.append(Call(call.kernel, call.inputs, (*call.outputs, *names), call.layer))
    return dataclasses.replace(
        program,
        kernels=kernels,
        buffers=buffers,
        calls=tuple(calls),
        microkernels=microkernels,
        functions=functions,
        layouts=layouts,
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
