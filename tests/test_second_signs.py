"""What x reaches where the rest behind the first sign, rounded, reaches a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicompile.second_signs import moved, sides

THRESHOLDS = st.one_of(
    st.floats(-3, 3, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, np.nextafter(np.float32(1), 2).item(), 2.0]),
)


def neighbours(x: np.ndarray) -> np.ndarray:
    """x, and some floats on either side."""
    near = [x, x]
    for _ in range(4):
        near = [np.nextafter(near[0], np.float32(-np.inf)), *near]
        near = [*near, np.nextafter(near[-1], np.float32(np.inf))]
    return np.stack(near)


@given(st.lists(THRESHOLDS, min_size=1, max_size=20), st.booleans())
def test_x_reaches_a_side_exactly_where_the_rounded_rest_reaches_the_threshold(
    thresholds: list[float], greater: bool
) -> None:
    s = np.array(thresholds, np.float32)
    both = sides(s, greater=greater)
    assert both is not None
    for sign, side in zip((np.float32(1), np.float32(-1)), both, strict=True):
        for x in (neighbours(side), neighbours(s + sign), np.linspace(-4, 4, 57)):
            x = np.asarray(x, np.float32)
            x = x if x.ndim > 1 else x[:, None]
            rest = x - sign
            reached, expected = (x >= side, rest >= s) if greater else (x <= side, rest <= s)
            np.testing.assert_array_equal(reached, np.broadcast_to(expected, reached.shape))


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20), st.booleans())
def test_what_a_shift_is_moved_to_rounds_to_both_sides(
    thresholds: list[float], greater: bool
) -> None:
    s = np.array(thresholds, np.float32)
    found, both = moved(s, greater=greater), sides(s, greater=greater)
    assert both is not None
    if found is not None:
        np.testing.assert_array_equal(found + np.float32(1), both[0])
        np.testing.assert_array_equal(found - np.float32(1), both[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_finite_number_has_no_sides(bad: float) -> None:
    s = np.array([0, bad], np.float32)
    assert sides(s, greater=True) is None
    assert moved(s, greater=False) is None
