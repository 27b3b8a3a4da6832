import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import run_guarded, run_kernels

from bicompile.devices.host import runs_here
from bicompile.targets import find_target
from bicompile.workloads import popcount_gemm

LANE_BITS = 31 * 8 * 16  # of one result, after which the 8-bit lanes are folded
DEVICES = (
    "emulator",
    "host",
    pytest.param(
        "avx2", marks=pytest.mark.skipif(not runs_here(find_target("x86-64-v3")), reason="no AVX2")
    ),
)
Case = tuple[int, int, np.ndarray, np.ndarray]


def expected(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a[:, None] ^ w[None]).sum(axis=-1, dtype=np.int32)


def check(operands: list[tuple[np.ndarray, np.ndarray]], device: str) -> None:
    cases = [(popcount_gemm(len(a), len(w), a.shape[1]), (a, w)) for a, w in operands]
    for (a, w), found in zip(operands, run_kernels(cases, device), strict=True):
        np.testing.assert_array_equal(found, expected(a, w), str((a.shape, w.shape)))


def random_bits(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def with_ones(vectors: int, *counts: int) -> np.ndarray:
    """Rows of 16-byte vectors: each begins with so many set bits, the rest is clear."""
    bits = np.arange(vectors * 128) < np.array(counts)[:, None]
    return np.packbits(bits, axis=-1, bitorder="little")


SIDES = st.integers(1, 13)
VECTORS = st.one_of(st.integers(1, 8), st.integers(28, 66))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=2, deadline=None)
@given(
    shapes=st.lists(st.tuples(SIDES, SIDES, VECTORS), min_size=5, max_size=5), seed=st.integers(0)
)
def test_any_shape_counts_like_numpy(
    device: str, shapes: list[tuple[int, int, int]], seed: int
) -> None:
    check(
        [
            (random_bits(seed + i, m, 16 * k), random_bits(seed + 99 * i + 1, n, 16 * k))
            for i, (m, n, k) in enumerate(shapes)
        ],
        device,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_every_tile_shape_counts_like_numpy(device: str) -> None:
    sides = (1, 2, 3, 4)
    check(
        [(random_bits(m, m, 32), random_bits(n + 50, n, 32)) for m in sides for n in sides], device
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vectors", [2, 31, 32, 62, 63])
def test_lanes_never_overflow_when_all_bits_differ(device: str, vectors: int) -> None:
    bits = 128 * vectors
    most = with_ones(vectors, bits, bits - 8, bits - 16, bits - 127)
    check([(most, with_ones(vectors, 0, bits))], device)


@pytest.mark.parametrize("device", DEVICES)
def test_rows_of_any_bits_count_at_the_edges_of_lanes(device: str) -> None:
    cases = []
    for bits in (1, 240, 247, 248, 249, 255, 256, 257, LANE_BITS, LANE_BITS + 1):
        vectors = -(-bits // 128)
        a, w = with_ones(vectors, bits, bits - 1, 0), with_ones(vectors, 0, bits)
        nest = popcount_gemm(len(a), len(w), 16 * vectors, used_bytes=-(-bits // 8))
        cases.append((nest, (a, w)))
    for (_, (a, w)), found in zip(cases, run_kernels(cases, device), strict=True):
        np.testing.assert_array_equal(found, expected(a, w), str(a.shape))


def test_all_bits_differ_across_three_folds() -> None:
    check([(with_ones(93, 3 * LANE_BITS, LANE_BITS + 8), with_ones(93, 0))], "emulator")


@pytest.mark.parametrize(("m", "n", "vectors"), [(1, 1, 1), (3, 5, 2), (4, 2, 31), (8, 6, 33)])
def test_a_kernel_touches_nothing_outside_its_buffers(m: int, n: int, vectors: int) -> None:
    a, w = random_bits(m, m, 16 * vectors), random_bits(n + 9, n, 16 * vectors)
    found = run_guarded(popcount_gemm(m, n, 16 * vectors), a, w)
    np.testing.assert_array_equal(found, expected(a, w))
