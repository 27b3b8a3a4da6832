"""Runs microkernels on the emulator: one object calls many of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.devices.emulator import Emulator
from bicompile.devices.memory import Placement
from bicompile.schedules.microkernels import Choices, Microkernel, Shape, popcount_gemm
from bicompile.targets import find_target

TARGET = find_target("cortex-a53")
_ALIGNMENT = 64


@dataclass(frozen=True)
class Case:
    """One call: a kernel, its rows of activations or the image that has them, its weights."""

    kernel: Microkernel
    rows: np.ndarray
    weights: np.ndarray


def build(
    cases: Sequence[Case], folder: Path, *, last: str = "weights"
) -> tuple[Executable, list[int]]:
    """An object whose entry calls the kernels in order; where in the workspace results begin.

    `last` ("rows" or "weights") says which constants come last, before the guard page.
    """
    declarations, calls, data, starts, work = [], [], {"rows": "", "weights": ""}, [], 0
    for index, case in enumerate(cases):
        operands = {"rows": case.rows, "weights": case.kernel.lay_out(case.weights)}
        for what, operand in operands.items():
            path = folder / f"{what}{index}"
            path.write_bytes(operand.tobytes())
            data[what] += f'.balign 64\n{path.name}: .incbin "{path}"\n'
        name = case.kernel.name
        declarations += [
            f"extern const char rows{index}[], weights{index}[];",
            f"void {name}(const void *, const void *, void *);",
        ]
        calls.append(f"{name}(rows{index}, weights{index}, work + {work});")
        starts.append(work)
        work += -(-4 * case.kernel.shape.rows * len(case.weights) // _ALIGNMENT) * _ALIGNMENT
    lines = [
        "#pragma GCC visibility push(hidden)",
        *declarations,
        "#pragma GCC visibility pop",
        f"void model_run(const float *x, float *y, char *work) {{ {' '.join(calls)} }}",
    ]
    (folder / "driver.c").write_text("\n".join(lines))
    toolchain.compile_c(folder / "driver.c", folder / "driver.s", TARGET)
    kernels = {case.kernel.name: case.kernel.assembly for case in cases}
    text = [(folder / "driver.s").read_text(), *kernels.values(), '.section .rodata,"a"']
    text += [data[what] for what in sorted(data, key=lambda what: what == last)]
    (folder / "all.s").write_text("\n".join(text))
    toolchain.assemble(folder / "all.s", folder / "all.o", TARGET)
    spec = TensorSpec("unused", (4,))
    return Executable(folder / "all.o", "model_run", spec, spec, work, TARGET), starts


def run(
    cases: Sequence[Case], placement: Placement = "end", *, last: str = "weights"
) -> list[np.ndarray]:
    """What every kernel computes, in its own type."""
    with TemporaryDirectory() as name:
        executable, starts = build(cases, Path(name), last=last)
        with Emulator(placement).load(executable) as loaded:
            result = loaded.run(np.zeros((1, 4), np.float32), keep_workspace=True)
    assert result.workspaces is not None
    found = []
    for case, start in zip(cases, starts, strict=True):
        m, n = case.kernel.shape.rows, len(case.weights)
        bits = result.workspaces[0, start : start + 4 * m * n]
        found.append(bits.view(case.kernel.result).reshape(m, n))
    return found


def check(cases: Sequence[Case], placement: Placement = "end") -> None:
    """What every kernel computes is what numpy does."""
    for each, found in zip(cases, run(cases, placement), strict=True):
        expected = each.kernel.meaning(each.rows, each.weights)
        np.testing.assert_array_equal(found, expected, each.kernel.name)


def random_bits(seed: int, *shape: int) -> np.ndarray:
    """Bytes of random bits."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def product(
    m: int,
    n: int,
    row_bytes: int,
    kind: int | None = 0,
    choices: Choices | None = None,
    *,
    seed: int = 0,
    pad: int = 0,
) -> Case:
    """Random rows, `pad` bytes apart, against n random rows of weights.

    `kind` is None for int32 popcounts, else what K is more than the bits of a row.
    """
    bits = None if kind is None else 8 * row_bytes + kind
    kernel = popcount_gemm(Shape(m, n, row_bytes, row_bytes + pad, bits, choices=choices))
    rows, weights = (
        random_bits(seed + index, side, row_bytes + pad) for index, side in enumerate((m, n))
    )
    return Case(kernel, rows, weights)
