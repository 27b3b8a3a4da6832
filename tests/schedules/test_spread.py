"""Constants in fewer bytes, spread out: every form, and lengths that do and do not fill steps."""

from typing import get_args

import numpy as np
import pytest
from kernel_runs import TARGETS, run_guarded, run_kernels

from bicompile.schedules import schedule
from bicompile.spread_workloads import Form, spread

LENGTHS = (1, 31, 32, 64, 96, 300, 320)
DTYPES: dict[Form, tuple[str, ...]] = {
    "halves": ("float16",),
    "steps": ("uint8", "uint16"),
    "line": ("uint8", "uint16"),
}
CASES = [(form, dtype) for form, dtypes in DTYPES.items() for dtype in dtypes]
assert set(DTYPES) == set(get_args(Form))

# No sum of these and no product with a level of 16 bits is rounded.
LINES: dict[Form, tuple[float, float]] = {
    "halves": (0, 0),
    "steps": (-40000, 0.8125),
    "line": (-100.125, 0.75),
}


def numbers_of(dtype: str, n: int) -> np.ndarray:
    """The least and the largest first."""
    random = np.random.default_rng(n)
    if dtype == "float16":
        special = np.array([-0.0, np.inf, -np.inf, 65504, 6e-8, -6e-8], np.float16)
        return np.concatenate([special, random.standard_normal(n).astype(np.float16)])[:n]
    levels = random.integers(0, np.iinfo(dtype).max, n, dtype, endpoint=True)
    levels[:2] = [0, np.iinfo(dtype).max][:n]
    return levels


def operands_of(form: Form, dtype: str, n: int) -> list[np.ndarray]:
    line = np.array(LINES[form], np.float32)
    return [numbers_of(dtype, n)] + ([] if form == "halves" else [line])


def expected(form: Form, numbers: np.ndarray) -> np.ndarray:
    first, step = LINES[form]
    exact = numbers.astype(np.float64)
    if form != "halves":
        exact = (first + exact) * step if form == "steps" else first + exact * step
    found = exact.astype(np.float32)
    assert np.array_equal(found, exact)
    return found


@pytest.mark.parametrize("device", TARGETS)
def test_every_form_gives_the_numbers_bit_for_bit(device: str) -> None:
    runs = [(form, dtype, n) for form, dtype in CASES for n in LENGTHS]
    kernels = [(spread(*run), operands_of(*run)) for run in runs]
    for (form, _, _), (_, operands), found in zip(
        runs, kernels, run_kernels(kernels, device), strict=True
    ):
        assert found.tobytes() == expected(form, operands[0]).tobytes()


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("n", [32, 64, 96])
def test_the_microkernel_reads_and_writes_its_numbers_only(form: Form, dtype: str, n: int) -> None:
    numbers, *line = operands_of(form, dtype, n)
    found = run_guarded(spread(form, dtype, n), numbers, *line)
    assert found.tobytes() == expected(form, numbers).tobytes()


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_lengths_share_one_microkernel(form: Form, dtype: str) -> None:
    made = [schedule(spread(form, dtype, n), "aarch64").assembly for n in (32, 64, 4096)]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 1
