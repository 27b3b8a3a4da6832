"""The byte-interleaved kernel, against numpy."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microkernel_runner import Case, check, product, random_bits, run
from test_window import window

from bicompile.devices.memory import Placement
from bicompile.schedules.microkernels import (
    MOST_BYTES,
    Interleaved,
    Shape,
    Window,
    popcount_gemm,
)
from bicompile.schedules.microkernels.interleaved import InterleavedTile, lay_out

WIDE, NARROW = Interleaved(32, 4, 4, 0), Interleaved(16, 4, 4, 0)
KINDS = [None, -1, 0]  # int32 counts, odd and even K
LANE_BYTES = 31


CHOICES = st.builds(
    Interleaved,
    st.sampled_from([16, 32]),
    st.sampled_from([2, 4, 8, 12]),
    st.sampled_from([2, 3, 4, 6]),
    st.integers(0, 63),
)
CASES = st.builds(
    product,
    st.integers(1, 5),
    st.integers(1, 70),
    st.one_of(st.integers(1, 70), st.integers(120, 240)),
    st.sampled_from(KINDS),
    CHOICES,
    seed=st.integers(0, 1000),
    pad=st.sampled_from([0, 14]),
)


@settings(max_examples=5, deadline=None)
@given(st.lists(CASES, min_size=8, max_size=8, unique_by=lambda each: each.kernel.name))
def test_any_shape_computes_like_numpy(cases: list[Case]) -> None:
    check(cases)


@pytest.mark.parametrize(
    "lengths",
    [
        (1, 2, 3, 7, 8, 15, 16, 17, 30, 31, 32, 33, 48, 50, 61, 62, 63, 64, 92, 93, 94),
        pytest.param(range(1, 96), marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
@pytest.mark.parametrize("choices", [WIDE, NARROW])
def test_every_length_of_a_row_counts_like_numpy(
    choices: Interleaved, lengths: Sequence[int]
) -> None:
    check([product(3, 33, row_bytes, 0, choices) for row_bytes in lengths])


@pytest.mark.parametrize("choices", [WIDE, NARROW])
def test_every_rest_of_outputs_counts_like_numpy(choices: Interleaved) -> None:
    check([product(3, n, 16, kind, choices) for n in range(1, 66) for kind in (None, 0)])


@pytest.mark.parametrize(
    "row_bytes", [1, 2, 30, 31, 32, 33, 62, 63, 93, 94, 143, 144, 31 * 16, 31 * 16 + 1]
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_lane_overflows_when_all_bits_differ(row_bytes: int, kind: int | None) -> None:
    cases = []
    for choices in (WIDE, NARROW):
        each = product(3, 33, row_bytes, kind, choices)
        each.rows[:] = [[255], [0], [255]]
        each.rows[2, -1] = 127
        each.weights[:] = 0
        each.weights[1::2] = 255
        cases.append(each)
    check(cases)


def test_the_longest_row_counts_exactly() -> None:
    cases = [product(1, 2, MOST_BYTES, None, WIDE), product(1, 2, MOST_BYTES, 0, WIDE)]
    for each in cases:
        each.rows[:] = 255
        each.weights[:] = [[0], [255]]
    check(cases)


def test_bytes_after_the_row_are_not_counted() -> None:
    each = product(4, 16, 50, 0, WIDE, pad=14)
    other = Case(each.kernel, each.rows.copy(), each.weights)
    other.rows[:, 50:] ^= 255
    np.testing.assert_array_equal(*run([each, other]))


# Sizes are multiples of 64 bytes, so that each buffer touches its guard page.
@pytest.mark.parametrize(
    ("m", "n", "row_bytes"), [(32, 32, 50), (4, 20, 16), (64, 8, 1), (4, 4, 208), (4, 48, 16)]
)
@pytest.mark.parametrize("placement", ["start", "end"])
@pytest.mark.parametrize("last", ["rows", "weights"])
def test_a_kernel_touches_nothing_outside_its_buffers(
    m: int, n: int, row_bytes: int, placement: Placement, last: str
) -> None:
    each = product(m, n, row_bytes, 0, WIDE)
    (found,) = run([each], placement, last=last)
    np.testing.assert_array_equal(found, each.kernel.meaning(each.rows, each.weights))


@pytest.mark.parametrize(
    "seen",
    [
        window((5, 5), 2, lines=4, positions=4),
        window((3, 3), 8, lines=6, positions=6),
        window((3, 3), 7, spare=2, strides=(2, 2)),
        window((1, 3), 64, lines=1, positions=3),
        window((2, 2), 16, lines=3, positions=3, dilations=(3, 3)),
    ],
    ids=["5x5x16", "3x3x64", "stride 2", "one long run", "dilated"],
)
@pytest.mark.parametrize("placement", ["start", "end"])
def test_rows_of_an_image_count_like_numpy(seen: Window, placement: Placement) -> None:
    row_bytes = seen.taps[0] * seen.taps[1] * seen.pixel
    shape = Shape(seen.lines * seen.positions, 36, row_bytes, 0, choices=WIDE, window=seen)
    each = Case(popcount_gemm(shape), random_bits(1, seen.plane), random_bits(2, 36, row_bytes))
    (found,) = run([each], placement, last="rows")
    np.testing.assert_array_equal(found, each.kernel.meaning(each.rows, each.weights))


@pytest.mark.parametrize("row_bytes", [*range(1, 130), 496, 497, MOST_BYTES])
def test_chunks_fit_lanes_of_eight_bits_and_hold_every_byte(row_bytes: int) -> None:
    chunks = InterleavedTile.chunks(Shape(1, 16, row_bytes, row_bytes, choices=WIDE))
    assert sum(chunks) == row_bytes
    assert max(chunks) <= LANE_BYTES
    assert len(chunks) <= 2 or set(chunks[1:]) == {LANE_BYTES}


def test_rows_of_two_chunks_cost_three_vector_instructions_a_byte() -> None:
    for row_bytes in (2, 16, 50, 62):
        kernel = popcount_gemm(Shape(2, 32, row_bytes, row_bytes, choices=WIDE))
        counted = re.findall(
            r"^\t(eor|cnt|add \S+\.16b|uaddl|uaddw)", kernel.assembly, re.MULTILINE
        )
        assert len(counted) == 3 * row_bytes * 4, row_bytes


def test_the_stack_holds_nothing_but_the_callers_registers() -> None:
    for n, row_bytes in ((256, 16), (32, 50), (48, 128), (20, 512)):
        each = product(3, n, row_bytes, -1, WIDE)
        code = [line for line in each.kernel.assembly.splitlines() if re.search(r"\bsp\b", line)]
        assert len(code) == 8
        assert all(re.match(r"\t[ls][dt]p d\d+, d\d+, \[sp", line) for line in code)


def test_a_vector_of_weights_is_one_byte_of_sixteen_outputs() -> None:
    weights = random_bits(1, 33, 5)
    laid = lay_out(weights, Shape(1, 33, 5, 5, choices=NARROW)).reshape(3, 5, 16)
    np.testing.assert_array_equal(laid[1, 2], weights[16:32, 2])
    np.testing.assert_array_equal(laid[2, :, 0], weights[32])
    assert not laid[2, :, 1:].any()


def test_a_wide_block_has_a_byte_of_all_its_outputs_in_one_place() -> None:
    weights = random_bits(1, 40, 5)
    laid = lay_out(weights, Shape(1, 40, 5, 5, choices=WIDE))
    assert laid.size == 48 * 5
    np.testing.assert_array_equal(laid[: 32 * 5].reshape(5, 32), weights[:32].T)
    np.testing.assert_array_equal(laid[32 * 5 :].reshape(5, 16)[:, :8], weights[32:].T)
