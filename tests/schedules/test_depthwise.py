"""A depthwise layer of two planes in one kernel, and how constants of microkernels lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_runs import run_for_all_results

from bicompile.dual_workloads import dual_depthwise
from bicompile.meaning import wrong
from bicompile.schedules.microkernels.dual_depthwise import lay_out_taps
from bicompile.schedules.microkernels.tables import lay_out

BITS = st.integers(0, 1)
FLOATS = st.sampled_from(np.array([0, -0.0, 1, 2, np.nan], np.float32))


@pytest.mark.parametrize("device", ["emulator", "host"])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("taps", [1, 4, 7])
def test_the_kernel_is_numpys(device: str, same: bool, taps: int) -> None:
    random = np.random.default_rng(taps)
    frames, channels, pads = 6, 20, (taps // 2, taps - 1 - taps // 2)
    nest = dual_depthwise(
        frames, channels, taps, pads=pads, greater=(True, False), residual=True, same=same
    )
    thresholds = random.standard_normal((3, channels)).astype(np.float32) / 4
    if same:
        thresholds[2] = thresholds[1]
    operands = (
        random.standard_normal((frames, channels)).astype(np.float32),
        thresholds,
        *random.standard_normal((2, channels)).astype(np.float32),
        random.integers(0, 2, (taps, channels), np.uint8),
        np.array([0.25], np.float32),
    )
    (results,) = run_for_all_results([(nest, operands)], device)
    assert wrong(nest, operands, results) == 0


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.integers(0, 1))
)
def test_a_tap_is_a_bit_of_its_channel(taps: np.ndarray) -> None:
    laid = lay_out_taps(taps)
    bits = laid >> np.arange(len(taps), dtype=np.uint8)[:, None] & 1
    np.testing.assert_array_equal(bits, 1 - taps)


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=FLOATS))
def test_a_row_of_a_table_is_found_at_its_offset(table: np.ndarray) -> None:
    laid = lay_out(table)
    offsets = laid[: 4 * len(table)].view(np.uint32)
    for row, offset in zip(table, offsets + 4 * np.arange(len(table)), strict=True):
        assert laid[offset : offset + row.nbytes].tobytes() == row.tobytes()
        assert offset % 4 == 0


def test_equal_rows_of_a_table_lie_there_once() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    laid = lay_out(rows[[0, 1, 1, 2, 0, 0, 1, 2]])
    assert laid.nbytes == 4 * 8 + rows.nbytes
