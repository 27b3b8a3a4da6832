"""Rows that are gathered from an image, against numpy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microkernel_runner import Case, check, run

from bicompile.devices.memory import Placement
from bicompile.schedules.microkernels import Shape, Window, popcount_gemm
from bicompile.schedules.microkernels.window import chunks_of_parts, columns

RUNS = [((0, 50),), ((0, 10), (24, 10), (48, 10)), ((0, 1), (3, 1), (6, 1)), ((0, 24), (80, 24))]


def window(
    taps: tuple[int, int],
    pixel: int,
    *,
    lines: int = 3,
    positions: int = 3,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    spare: int = 0,
) -> Window:
    """A window on an image that ends where it does, but for `spare` pixels of every line."""
    width = (positions - 1) * strides[1] + (taps[1] - 1) * dilations[1] + 1 + spare
    line = width * pixel
    height = (lines - 1) * strides[0] + (taps[0] - 1) * dilations[0] + 1
    across, down = strides[1] * pixel, strides[0] * line
    plane = height * line
    return Window(
        lines,
        positions,
        taps,
        pixel,
        across,
        down,
        dilations[1] * pixel,
        dilations[0] * line,
        plane,
    )


def case(seen: Window, outputs: int, bits: int | None = None, *, seed: int = 0) -> Case:
    row_bytes = seen.taps[0] * seen.taps[1] * seen.pixel
    kind = None if bits is None else 8 * row_bytes + bits
    rows = seen.lines * seen.positions
    kernel = popcount_gemm(Shape(rows, outputs, row_bytes, 0, kind, window=seen))
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, seen.plane, np.uint8)
    return Case(kernel, image, generator.integers(0, 256, (outputs, row_bytes), np.uint8))


SIDE = st.integers(1, 3)
WINDOWS = st.builds(
    window,
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 18),
    lines=SIDE,
    positions=st.integers(1, 5),
    strides=st.tuples(SIDE, SIDE),
    dilations=st.tuples(SIDE, SIDE),
    spare=st.integers(0, 2),
).filter(Window.fits)
CASES = st.builds(
    case, WINDOWS, st.integers(1, 50), st.sampled_from([None, -1, 0]), seed=st.integers(0, 1000)
)


@settings(max_examples=5, deadline=None)
@given(st.lists(CASES, min_size=10, max_size=10, unique_by=lambda each: each.kernel.name))
def test_any_window_computes_like_numpy(cases: list[Case]) -> None:
    check(cases)


def test_every_pixel_and_kernel_computes_like_numpy() -> None:
    taps = [(1, 5), (2, 2), (3, 3), (5, 5)]
    windows = [window(each, pixel) for each in taps for pixel in range(1, 18)]
    check([case(each, 16) for each in windows if each.fits()])


@pytest.mark.parametrize(
    ("taps", "pixel"),
    [((5, 3), 2), ((3, 5), 2), ((31, 1), 1), ((5, 5), 2), ((3, 3), 7), ((3, 3), 8), ((8, 1), 16)],
)
@pytest.mark.parametrize("bits", [None, -1, 0])
def test_no_lane_overflows_when_all_bits_differ(
    taps: tuple[int, int], pixel: int, bits: int | None
) -> None:
    # Rows of 240, 248, 400, 504, 576 and 1024 bits: one chunk and several.
    each = case(window(taps, pixel, spare=1), 17, bits)
    each.rows[:] = 255
    each.weights[:] = 0
    each.weights[1::2] = 255
    check([each])


# Images are multiples of 64 bytes, so that each touches its guard page.
@pytest.mark.parametrize(
    "seen",
    [
        window((5, 5), 2, lines=4, positions=4),
        window((3, 3), 8, lines=6, positions=6),
        window((3, 3), 1, lines=6, positions=6),
        window((1, 5), 16, lines=1, positions=8),
        window((2, 2), 16, lines=3, positions=3, dilations=(3, 3)),
    ],
    ids=["5x5x16", "3x3x64", "3x3x8", "1x5x128", "2x2x128"],
)
@pytest.mark.parametrize("placement", ["start", "end"])
def test_a_kernel_touches_nothing_outside_its_image(seen: Window, placement: Placement) -> None:
    assert seen.plane % 64 == 0
    each = case(seen, 20)
    (found,) = run([each], placement, last="rows")
    np.testing.assert_array_equal(found, each.kernel.meaning(each.rows, each.weights))


@pytest.mark.parametrize("runs", RUNS)
def test_parts_hold_every_byte_of_a_row_once(runs: tuple[tuple[int, int], ...]) -> None:
    bytes_of_row = sum(length for _, length in runs)
    np.testing.assert_array_equal(np.sort(columns(runs)), np.arange(bytes_of_row))
    seen = [
        part.begin + byte
        for parts in chunks_of_parts(runs)
        for part in parts
        for byte in range(part.size)
    ]
    assert sorted(seen) == [begin + byte for begin, length in runs for byte in range(length)]


@pytest.mark.parametrize("runs", RUNS)
def test_a_part_lies_in_a_lane_of_its_size(runs: tuple[tuple[int, int], ...]) -> None:
    assert all(part.lane % part.size == 0 for parts in chunks_of_parts(runs) for part in parts)


def test_rows_of_one_run_keep_their_order() -> None:
    np.testing.assert_array_equal(columns(((0, 50),)), np.arange(50))


def test_runs_that_touch_are_one() -> None:
    assert window((1, 5), 8, lines=1).runs == ((0, 40),)
    assert window((3, 3), 8, positions=1).runs == ((0, 72),)
    assert window((2, 3), 2, positions=3, spare=1).runs == ((0, 6), (12, 6))


def test_many_chunks_of_several_runs_have_no_kernel() -> None:
    assert not window((3, 3), 16).fits()
    assert window((1, 3), 64, lines=1).fits()


def test_gathering_anew_for_every_block_pays_for_few_outputs() -> None:
    once, anew = window((5, 5), 2), window((3, 3), 8)
    assert once.pays(16)
    assert once.pays(4096)
    assert anew.pays(64)
    assert not anew.pays(256)


def test_the_text_of_a_kernel(golden: Callable[[str, str], None]) -> None:
    seen = window((3, 3), 2, lines=2, positions=3)
    golden("conv_2x3x18", popcount_gemm(Shape(6, 18, 18, 0, window=seen)).assembly)
