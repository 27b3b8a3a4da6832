import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microkernel_runner import Case, check, product, run

from bicompile.devices.memory import Placement
from bicompile.schedules.microkernels import MOST_BYTES, Epilogue, Shape, popcount_gemm

ODD, EVEN = -1, 0  # bits of the last byte that K leaves out; None: int32 popcounts


ROW_BYTES = st.one_of(st.integers(1, 70), st.integers(120, 240))
CASES = st.builds(
    product,
    st.integers(1, 5),
    st.integers(1, 50),
    ROW_BYTES,
    st.sampled_from([None, ODD, EVEN]),
    seed=st.integers(0, 1000),
    pad=st.sampled_from([0, 14]),
)


@settings(max_examples=5, deadline=None)
@given(st.lists(CASES, min_size=12, max_size=12, unique_by=lambda each: each.kernel.name))
def test_any_shape_computes_like_numpy(cases: list[Case]) -> None:
    check(cases)


@pytest.mark.parametrize("kind", [None, ODD, EVEN])
def test_every_rest_of_a_row_counts_like_numpy(kind: int | None) -> None:
    check([product(3, 16, row_bytes, kind) for row_bytes in range(1, 66)])


def test_every_rest_of_outputs_counts_like_numpy() -> None:
    check([product(3, n, 16, kind) for n in range(1, 34) for kind in (None, EVEN)])


@pytest.mark.parametrize("row_bytes", [1, 2, 8, 15, 16, 30, 31, 32, 62, 63, 64, 128, 496, 497])
@pytest.mark.parametrize("kind", [None, ODD, EVEN])
def test_no_lane_overflows_when_all_bits_differ(row_bytes: int, kind: int | None) -> None:
    bits = None if kind is None else 8 * row_bytes + kind
    kernel = popcount_gemm(Shape(3, 17, row_bytes, row_bytes, bits))
    rows = np.full((3, row_bytes), 255, np.uint8)
    rows[1] = 0
    rows[2, -1] = 127
    weights = np.zeros((17, row_bytes), np.uint8)
    weights[1::2] = 255
    check([Case(kernel, rows, weights)])


def test_the_longest_row_counts_exactly() -> None:
    kernels = [popcount_gemm(Shape(1, 2, MOST_BYTES, MOST_BYTES, bits)) for bits in (None, 65528)]
    rows = np.full((1, MOST_BYTES), 255, np.uint8)
    weights = np.stack([0 * rows[0], rows[0]])
    check([Case(kernel, rows, weights) for kernel in kernels])


def test_a_row_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="rows have 8192 bytes, accepted are at most 8191"):
        popcount_gemm(Shape(1, 1, MOST_BYTES + 1, MOST_BYTES + 1))


def test_bytes_after_the_row_are_not_counted() -> None:
    each = product(4, 16, 50, pad=14)
    other = Case(each.kernel, each.rows.copy(), each.weights)
    other.rows[:, 50:] ^= 255
    np.testing.assert_array_equal(*run([each, other]))


# Sizes are multiples of 64 bytes, so that each buffer touches its guard page.
@pytest.mark.parametrize(
    ("m", "n", "row_bytes"), [(32, 32, 50), (4, 20, 16), (64, 8, 1), (4, 4, 208)]
)
@pytest.mark.parametrize("placement", ["start", "end"])
@pytest.mark.parametrize("last", ["rows", "weights"])
def test_a_kernel_touches_nothing_outside_its_buffers(
    m: int, n: int, row_bytes: int, placement: Placement, last: str
) -> None:
    each = product(m, n, row_bytes)
    (found,) = run([each], placement, last=last)
    np.testing.assert_array_equal(found, each.kernel.meaning(each.rows, each.weights))


SHAPES = [(8, 256, 16), (7, 40, 32), (64, 32, 50), (3, 48, 63), (4, 32, 128), (3, 20, 512)]


@pytest.mark.parametrize(("m", "n", "row_bytes"), SHAPES)
def test_the_stack_holds_nothing_but_the_callers_registers(m: int, n: int, row_bytes: int) -> None:
    lines = popcount_gemm(Shape(m, n, row_bytes, row_bytes, 8 * row_bytes)).assembly.splitlines()
    code = [line.strip() for line in lines if line.startswith("\t") and line[1] != "."]
    touching = [line for line in code if re.search(r"\bsp\b", line)]
    assert touching == [*code[:4], *code[-5:-1]]
    assert all(re.match(r"[ls][dt]p d\d+, d\d+, \[sp", line) for line in touching)


def test_the_text_of_a_kernel(golden: Callable[[str, str], None]) -> None:
    golden("dot_3x36x18", popcount_gemm(Shape(3, 36, 18, 18, 144)).assembly)


def test_the_text_of_a_kernel_with_one_multiplier(golden: Callable[[str, str], None]) -> None:
    epilogue = Epilogue(
        planes=2, products=False, scale=2, multiplier=1, shift=1, slope=True, residual=False
    )
    kernel = popcount_gemm(Shape(2, 8, 16, 16, 128, epilogue))
    golden("dot_2x8x16_one_multiplier", kernel.assembly)
