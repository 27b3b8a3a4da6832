"""A depthwise layer of two planes in one kernel, and how constants of microkernels lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_runs import built, run_for_all_results
from tvm import tirx

from bicompile.cost import trace
from bicompile.dual_workloads import dual_depthwise
from bicompile.meaning import wrong
from bicompile.schedules.microkernels.dual_depthwise import lay_out_taps
from bicompile.schedules.microkernels.tables import lay_out

BITS = st.integers(0, 1)
FLOATS = st.sampled_from(np.array([0, -0.0, 1, 2, np.nan], np.float32))


CHANNELS = 20


def layer(
    taps: int, multiplier: np.ndarray, *, same: bool, thresholds: int = CHANNELS
) -> tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]:
    """A layer of 6 frames that keeps its size, and its operands: random but for the multiplier."""
    random = np.random.default_rng(taps)
    nest = dual_depthwise(
        6,
        CHANNELS,
        taps,
        pads=(taps // 2, taps - 1 - taps // 2),
        greater=(True, False),
        residual=True,
        thresholds=thresholds,
        multipliers=multiplier.size,
        same=same,
    )
    bounds = random.standard_normal((3, thresholds)).astype(np.float32) / 4
    if same:
        bounds[2] = bounds[1]
    operands = (
        random.standard_normal((6, CHANNELS)).astype(np.float32),
        bounds,
        multiplier,
        random.standard_normal(CHANNELS).astype(np.float32),
        random.integers(0, 2, (taps, CHANNELS), np.uint8),
        np.array([0.25], np.float32),
    )
    return nest, operands


@pytest.mark.parametrize("device", ["emulator", "host"])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("taps", [1, 4, 7])
@pytest.mark.parametrize("thresholds", [1, CHANNELS])
def test_the_kernel_is_numpys(device: str, same: bool, taps: int, thresholds: int) -> None:
    random = np.random.default_rng(1)
    multiplier = random.standard_normal(CHANNELS).astype(np.float32)
    nest, operands = layer(taps, multiplier, same=same, thresholds=thresholds)
    (results,) = run_for_all_results([(nest, operands)], device)
    assert wrong(nest, operands, results) == 0


@pytest.mark.parametrize("device", ["emulator", "host"])
@pytest.mark.parametrize("same", [True, False])
def test_one_multiplier_gives_the_bits_of_equal_ones(device: str, same: bool) -> None:
    each = np.full(CHANNELS, -0.3, np.float32)
    cases = [layer(5, multiplier, same=same) for multiplier in (each[:1], each)]
    (one, scale), equal = run_for_all_results(cases, device)
    assert wrong(*cases[0], [one, scale]) == 0
    np.testing.assert_array_equal(one, equal[0])


@pytest.mark.parametrize("thresholds", [1, CHANNELS])
def test_one_number_of_all_channels_costs_no_more_than_one_of_each(thresholds: int) -> None:
    counted = []
    for multipliers in (1, CHANNELS):
        multiplier = np.full(multipliers, -0.3, np.float32)
        numbers = min(thresholds, multipliers)
        case = layer(5, multiplier, same=True, thresholds=numbers)
        with built([case]) as (executable, _, _):
            traced = trace.collect(executable, np.zeros(4, np.float32))
        counted.append(sum(traced.instructions.values()))
    assert counted[0] == counted[1]


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
