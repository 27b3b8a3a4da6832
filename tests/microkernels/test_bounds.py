"""The cost per unit: 128 bits of one row against one output, float32 results."""

from pathlib import Path

import numpy as np
import pytest
from microkernel_runner import Case, build

from bicompile.cost import inorder, trace
from bicompile.schedules.microkernels import Shape, popcount_gemm

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
