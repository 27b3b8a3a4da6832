"""A product that adds no residual, in an object where another of its shape adds one."""

import numpy as np
import pytest
from kernel_runs import program_of, run_kernels
from tvm import tirx

from bicompile.dual_workloads import Steps, popcount_epilogue
from bicompile.scheduling import schedule_program

SIZES = [(8, 128, 32, 2), (3, 20, 9, 2), (5, 12, 64, 1), (1, 4, 16, 1)]
SPECIAL = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 1.5, -1.5], np.float32)

Case = tuple[tirx.PrimFunc, list[np.ndarray]]


def pair(rows: int, n: int, row_bytes: int, planes: int) -> tuple[Case, Case]:
    """Two nests that differ by a residual, the first one's, with operands."""
    rng = np.random.default_rng(rows)
    operands = [
        rng.integers(0, 256, (planes * rows, row_bytes), np.uint8),
        rng.integers(0, 256, (n, row_bytes), np.uint8),
        rng.choice(SPECIAL, n),
        rng.choice(SPECIAL, (1, n)),
        np.float32([0.25]),
    ]
    nests = [
        popcount_epilogue(
            rows,
            n,
            row_bytes,
            used_bytes=row_bytes,
            planes=planes,
            products=8 * row_bytes,
            steps=Steps(multiplier=n, shift=1, slope=True, residual=residual),
        )
        for residual in (True, False)
    ]
    residual = rng.standard_normal((rows, n)).astype(np.float32)
    return (nests[0], [*operands, residual]), (nests[1], operands)


@pytest.mark.parametrize("size", SIZES)
def test_adding_nothing_changes_no_bit(size: tuple[int, int, int, int]) -> None:
    added, bare = pair(*size)
    (alone,) = run_kernels([bare])
    total, beside = run_kernels([added, bare])
    np.testing.assert_array_equal(beside.view(np.uint32), alone.view(np.uint32))
    np.testing.assert_array_equal(total, alone + added[1][-1])


def test_one_function_serves_both_nests() -> None:
    added, bare = pair(*SIZES[0])
    both = schedule_program(program_of([added, bare]), "aarch64")
    assert both.functions["kernel0"] == both.functions["kernel1"]
    assert len(both.microkernels) == 1


def test_a_nest_without_the_other_has_a_function_of_its_own() -> None:
    added, bare = pair(*SIZES[0])
    function, other = (
        schedule_program(program_of([case]), "aarch64").functions["kernel0"]
        for case in (added, bare)
    )
    assert function != other


def test_another_shape_does_not_stand_in() -> None:
    (added, _), (_, bare) = pair(*SIZES[0]), pair(*SIZES[1])
    assert len(schedule_program(program_of([added, bare]), "aarch64").microkernels) == 2
