"""What kernels cost: products per unit of 128 bits, what packs bits per 128 values."""

from pathlib import Path

import numpy as np
import pytest
from kernel_runs import built
from microkernel_runner import Case, build
from tvm import tirx

from bicompile.cost import inorder, trace
from bicompile.dual_workloads import dual_scale
from bicompile.schedules.microkernels import Shape, popcount_gemm
from bicompile.workloads import threshold

# K bits, outputs, rows; instructions; cycles modelled by inorder for cortex-a53.
BOUNDS = [
    (128, 256, 8, 4.0, 3.6),
    (128, 256, 16, 4.0, 3.6),
    (256, 128, 8, 3.65, 3.4),
    (256, 128, 16, 3.65, 3.4),
    (400, 32, 64, 2.85, 2.65),
    (1024, 256, 64, 3.4, 3.15),
]


@pytest.mark.parametrize(("bits", "outputs", "rows", "instructions", "cycles"), BOUNDS)
def test_a_unit_costs_at_most(
    tmp_path: Path, bits: int, outputs: int, rows: int, instructions: float, cycles: float
) -> None:
    kernel = popcount_gemm(Shape(rows, outputs, bits // 8, bits // 8, bits))
    operands = [np.zeros((side, bits // 8), np.uint8) for side in (rows, outputs)]
    executable, _ = build([Case(kernel, *operands)], tmp_path)
    traced = trace.collect(executable, np.zeros(4, np.float32))
    units = rows * outputs * -(-bits // 128)
    assert traced.instructions[kernel.name] / units <= instructions
    assert inorder.cycles(traced)[kernel.name] / units <= cycles


def cost(nest: tirx.PrimFunc, channels: int, rows: int, constants: int) -> float:
    """Instructions for 128 values of x, the call included."""
    x = np.zeros((rows, channels), np.float32)
    with built([(nest, [x, *[np.zeros(channels, np.float32)] * constants])]) as (executable, *_):
        traced = trace.collect(executable, np.zeros(4, np.float32))
    return sum(traced.instructions.values()) / (rows * channels / 128)


def test_a_threshold_per_channel_costs_at_most_85_instructions_for_128_values() -> None:
    assert cost(threshold(8, 256, greater=True), 256, 8, 1) <= 85


def test_dual_scale_costs_at_most_290_instructions_for_128_values() -> None:
    nest = dual_scale(8, 256, greater=(True, True), mean="row", same=True)
    assert cost(nest, 256, 8, 3) <= 290
