"""Runs single kernels: one object for many of them, on any device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tvm import tirx

from bicompile.artifact import Executable, TensorSpec
from bicompile.build import build_object
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.memory import Plan, plan_memory
from bicompile.program import Buffer, Call, Program
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target

TARGETS = {"emulator": "cortex-a53", "qemu": "cortex-a53", "host": "host", "avx2": "x86-64-v3"}
"""A target for every device; `avx2` is the host without what it may have beyond that."""

_INPUT = Buffer((4,), "float32")


def result_of(kernel: tirx.PrimFunc) -> Buffer:
    """The buffer that a kernel writes: its last parameter."""
    return _buffers(kernel, len(kernel.params) - 1)[0]


def _buffers(kernel: tirx.PrimFunc, first: int) -> list[Buffer]:
    kinds = [parameter.ty for parameter in kernel.params[first:]]
    return [Buffer(tuple(int(dim) for dim in kind.shape), str(kind.dtype)) for kind in kinds]


def program_of(cases: Sequence[tuple[tirx.PrimFunc, Sequence[np.ndarray]]]) -> Program:
    """A program that calls every kernel once; operands are constants, results stay readable."""
    kernels = {f"kernel{i}": kernel for i, (kernel, _) in enumerate(cases)}
    results = [_named_results(i, *case) for i, case in enumerate(cases)]
    constants = {
        f"operand{i}_{j}": operand
        for i, (_, operands) in enumerate(cases)
        for j, operand in enumerate(operands)
    }
    calls = tuple(
        Call(
            f"kernel{i}",
            tuple(f"operand{i}_{j}" for j in range(len(operands))),
            tuple(results[i]),
            "",
        )
        for i, (_, operands) in enumerate(cases)
    )
    buffers = {"input": _INPUT, "output": _INPUT}
    for named in results:
        buffers |= named
    return Program(kernels, buffers, constants, calls, "input", "output")


def _named_results(
    index: int, kernel: tirx.PrimFunc, operands: Sequence[np.ndarray]
) -> dict[str, Buffer]:
    written = _buffers(kernel, len(operands))
    return {f"result{index}_{j}": buffer for j, buffer in enumerate(written)}


@contextmanager
def built(
    cases: Sequence[tuple[tirx.PrimFunc, Sequence[np.ndarray]]], target_name: str = "cortex-a53"
) -> Iterator[tuple[Executable, Program, Plan]]:
    """An object that runs every kernel on its operands; no two buffers share their place."""
    target = find_target(target_name)
    program = schedule_program(program_of(cases), target.arch)
    plan = plan_memory(program, reuse=False)
    spec = TensorSpec("unused", _INPUT.shape)
    with TemporaryDirectory() as folder:
        obj = Path(folder) / "model.o"
        build_object(program, plan, target, obj)
        yield Executable(obj, ENTRY, spec, spec, plan.workspace_bytes, target), program, plan


def run_kernels(
    cases: Sequence[tuple[tirx.PrimFunc, Sequence[np.ndarray]]], device: str = "emulator"
) -> list[np.ndarray]:
    """Schedule, build and run kernels on their operands; returns each one's result."""
    return [results[0] for results in run_for_all_results(cases, device)]


def run_for_all_results(
    cases: Sequence[tuple[tirx.PrimFunc, Sequence[np.ndarray]]], device: str = "emulator"
) -> list[list[np.ndarray]]:
    """As run_kernels, of kernels with several results."""
    given = np.zeros((1, *_INPUT.shape), np.float32)
    with (
        built(cases, TARGETS[device]) as (executable, program, plan),
        open_device("host" if device == "avx2" else device).load(executable) as loaded,
    ):
        workspaces = loaded.run(given, keep_workspace=True).workspaces
    assert workspaces is not None

    def read(name: str) -> np.ndarray:
        buffer, start = program.buffers[name], plan.offsets[name]
        found = workspaces[0, start : start + buffer.nbytes]
        return found.view(buffer.dtype).reshape(buffer.shape)

    return [[read(name) for name in _named_results(i, *case)] for i, case in enumerate(cases)]


def run_guarded(kernel: tirx.PrimFunc, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Run one kernel on the emulator with its first operand and its result between guard pages.

    Their sizes must be multiples of four bytes; other operands are constants.
    """
    result = result_of(kernel)
    names = [f"operand{i}" for i in range(len(others))]
    program = Program(
        {"kernel": kernel},
        {"input": Buffer(first.shape, str(first.dtype)), "output": result},
        dict(zip(names, others, strict=True)),
        (Call("kernel", ("input", *names), ("output",), ""),),
        "input",
        "output",
    )
    target = find_target("cortex-a53")
    program = schedule_program(program, target.arch)
    given = first.reshape(-1).view(np.float32)
    specs = TensorSpec("first", given.shape), TensorSpec("result", (result.nbytes // 4,))
    with TemporaryDirectory() as folder:
        obj = Path(folder) / "model.o"
        plan = plan_memory(program)
        build_object(program, plan, target, obj)
        executable = Executable(obj, ENTRY, *specs, plan.workspace_bytes, target)
        with open_device("emulator").load(executable) as loaded:
            found = loaded.run(given[None]).outputs[0]
    return found.view(result.dtype).reshape(result.shape)
