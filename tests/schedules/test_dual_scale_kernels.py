"""Dual-scale binarization, bit for bit, where x lies on its thresholds."""

import itertools

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_runs import built, run_for_all_results
from tvm import tirx

from bicompile.cost import trace
from bicompile.cost.registers import check_registers
from bicompile.dual_workloads import Mean, dual_scale
from bicompile.schedules import schedule
from bicompile.second_signs import moved
from bicompile.workloads import GREATER

ONE = np.float32(1)
SPECIAL = np.array([0, -0.0, 1, -1, 1e-45, -1e-45, 1e6], np.float32)
MEANS: tuple[Mean, ...] = ("row", "all")
DIRECTIONS = [(True, True), (True, False), (False, True), (False, False)]


def near(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every value itself, or a float next to it."""
    beside = rng.choice(np.array([-np.inf, np.inf], np.float32), values.shape)
    return np.where(rng.random(values.shape) < 0.4, values, np.nextafter(values, beside))


def on_thresholds(theta: np.ndarray, shift: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """x next to where a sign turns, or anything."""
    rng = np.random.default_rng(seed)
    kinds = [near(np.tile(at, (rows, 1)), rng) for at in (theta, shift + ONE, shift - ONE)]
    kinds += [rng.choice(SPECIAL, (rows, len(theta)))]
    kinds += [rng.standard_normal((rows, len(theta)), np.float32)]
    return np.choose(rng.integers(0, len(kinds), (rows, len(theta))), kinds)


def compared(x: np.ndarray, threshold: np.ndarray, greater: bool) -> np.ndarray:
    return x >= threshold if greater else x <= threshold


def thresholds(seed: int, channels: int) -> np.ndarray:
    """Those of a first sign, of a second that is the shift, and of another second."""
    spread = np.array([[0.3], [0.03], [0.3]])
    return (np.random.default_rng(seed).standard_normal((3, channels)) * spread).astype(np.float32)


def meaning(
    x: np.ndarray,
    theta: np.ndarray,
    shift: np.ndarray,
    theta2: np.ndarray,
    greater: tuple[bool, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Planes of bits and the mean of every row."""
    first = compared(x, theta, greater[0])
    rest = x - np.where(first, ONE, -ONE)
    both = np.concatenate([first, compared(rest, theta2, greater[1])])
    means = np.abs(rest.astype(np.float64) - shift).mean(axis=1)
    return np.packbits(both, axis=-1, bitorder="little"), means


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("device", ["emulator", "host"])
@settings(max_examples=2, deadline=None, phases=[Phase.generate])
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 8)), min_size=2, max_size=2),
    seed=st.integers(0),
)
def test_both_planes_are_exact_beside_their_thresholds(
    device: str, uniform: bool, shapes: list[tuple[int, int]], seed: int
) -> None:
    cases = []
    for index, (rows, steps) in enumerate(shapes):
        size, greater = (rows, 32 * steps), DIRECTIONS[(seed + index) % 4]
        theta, shift, theta2 = thresholds(seed + index, 1 if uniform else 32 * steps)
        for same, second in ((True, shift), (False, theta2)):
            every = [np.resize(each, 32 * steps) for each in (theta, second)]
            x = on_thresholds(*every, rows, seed + index)
            kind = {"greater": greater, "same": same, "uniform": uniform}
            nests = [dual_scale(*size, mean=mean, **kind) for mean in MEANS]
            cases += [(nest, (x, theta, shift, second)) for nest in nests]
    check(cases, device)


def check(
    cases: list[tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]], device: str = "emulator"
) -> None:
    for (nest, (x, theta, shift, second)), (bits, scale) in zip(
        cases, run_for_all_results(cases, device), strict=True
    ):
        greater = tuple(map(bool, nest.attrs[GREATER]))
        expected, means = meaning(x, theta, shift, second, greater)
        np.testing.assert_array_equal(bits, expected)
        if len(scale) == len(x):
            np.testing.assert_allclose(scale, means, 1e-5)
        else:  # a sum of float32 in any order
            np.testing.assert_allclose(scale, means.mean(), max(1e-5, x.size * 2.0**-24))


@pytest.mark.parametrize("device", ["emulator", "host"])
@pytest.mark.parametrize("mean", ["row", pytest.param("all", marks=pytest.mark.slow), "channel"])
def test_uniform_thresholds_give_the_bits_of_equal_ones(device: str, mean: Mean) -> None:
    shapes = [(6, 96, 1), (16, 16, 1), (3, 24, 1), (4, 5, 1), (3, 12, 2), (4, 16, 2), (3, 1, 16)]
    cases = []
    for index, (rows, channels, groups) in enumerate(shapes):
        theta, shift, theta2 = thresholds(index, 1)
        width = groups * channels
        x = on_thresholds(np.resize(theta, width), np.resize(shift, width), rows, index)
        for second, same in ((shift, True), (theta2, False)):
            for numbers in (1, width):
                nest = dual_scale(
                    rows,
                    channels,
                    groups=groups,
                    greater=DIRECTIONS[index % 4],
                    mean=mean,
                    same=same,
                    uniform=numbers < width,
                )
                operands = [np.resize(each, numbers) for each in (theta, shift, second)]
                cases.append((nest, (x, *operands)))
    found = run_for_all_results(cases, device)
    for uniform, each in zip(found[::2], found[1::2], strict=True):
        for one, other in zip(uniform, each, strict=True):
            np.testing.assert_array_equal(one, other)


def test_uniform_thresholds_are_not_loaded_again() -> None:
    x = np.zeros((8, 256), np.float32)
    counted = []
    for numbers in (1, 256):
        zeros = [np.zeros(numbers, np.float32)] * 3
        nest = dual_scale(
            *x.shape, greater=(True, True), mean="row", same=True, uniform=numbers == 1
        )
        with built([(nest, [x, *zeros])]) as (executable, _, _):
            traced = trace.collect(executable, np.zeros(4, np.float32))
            assert all(each.spills == 0 for each in check_registers(executable).values())
        counted.append(sum(traced.instructions.values()))
    steps, of_a_step = 2 * 8, 4 * (2 + 4)  # loads and sums
    saved = counted[1] - counted[0]
    assert steps * of_a_step <= saved <= steps * (of_a_step + 1)


def test_shapes_of_whole_tiles_share_one_text() -> None:
    sizes: list[tuple[int, int, Mean]] = [(8, 256, "row"), (8, 128, "row"), (32, 128, "all")]
    (name, text), *others = (
        item
        for rows, channels, mean in sizes
        for item in scheduled_text(rows, channels, mean).items()
    )
    assert others == [(name, text)] * 2


def test_equal_names_mean_equal_texts() -> None:
    texts: dict[str, set[str]] = {}
    for rows, channels in itertools.product(range(1, 9), (32, 64, 4096)):
        for mean in MEANS:
            for name, text in scheduled_text(rows, channels, mean).items():
                texts.setdefault(name, set()).add(text)
    assert len(texts) == 7
    assert {len(found) for found in texts.values()} == {1}


def scheduled_text(rows: int, channels: int, mean: Mean) -> dict[str, str]:
    nest = dual_scale(rows, channels, greater=(True, True), mean=mean, same=True)
    return dict(schedule(nest, "aarch64").assembly)


@pytest.mark.parametrize("mean", MEANS)
def test_every_rest_of_rows_is_exact(mean: Mean) -> None:
    cases = []
    for rows, steps in itertools.product(range(1, 10), (1, 3)):
        theta, shift, theta2 = thresholds(rows, 32 * steps)
        for same, second in ((True, shift), (False, theta2)):
            x = on_thresholds(theta, second, rows, rows)
            nest = dual_scale(rows, 32 * steps, greater=(True, False), mean=mean, same=same)
            cases.append((nest, (x, theta, shift, second)))
    check(cases)


def test_what_is_no_number_or_infinite_sets_the_bits_that_comparisons_do() -> None:
    theta, shift, _ = thresholds(0, 32)
    x = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), (1, 32))
    nest = dual_scale(1, 32, greater=(True, False), mean="row", same=True)
    ((bits, _),) = run_for_all_results([(nest, (x, theta, shift, shift))])
    expected, _ = meaning(x, theta, shift, shift, (True, False))
    np.testing.assert_array_equal(bits, expected)


@pytest.mark.parametrize("greater", [True, False])
def test_moved_thresholds_decide_of_x_what_the_rest_decides(greater: bool) -> None:
    shifts = np.random.default_rng(0).standard_normal(1000).astype(np.float32) / 16
    found = moved(shifts, greater=greater)
    assert found is not None
    np.testing.assert_allclose(found, shifts, atol=2**-23)
    for sign in (ONE, -ONE):
        x = found + sign
        for _ in range(4):
            x = np.nextafter(x, np.float32(-np.inf))
        for _ in range(9):
            decided = compared(x, found + sign, greater)
            np.testing.assert_array_equal(decided, compared(x - sign, shifts, greater))
            x = np.nextafter(x, np.float32(np.inf))


@pytest.mark.parametrize("shift", [1.0, np.inf, np.nan, 2.0**24])
def test_a_threshold_that_no_move_serves_is_not_moved(shift: float) -> None:
    assert moved(np.array([0, shift], np.float32), greater=True) is None
