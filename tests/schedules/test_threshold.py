import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import run_guarded, run_kernels

from bicompile.schedules import schedule
from bicompile.workloads import threshold

DEVICES = ("emulator", "host")
TINY = np.finfo(np.float32).smallest_subnormal
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, TINY, -TINY, np.inf, -np.inf, np.nan, np.nextafter(np.float32(1), 2)],
    np.float32,
)


def expected(x: np.ndarray, theta: np.ndarray, greater: bool, groups: int = 1) -> np.ndarray:
    holds = (x >= theta if greater else x <= theta).reshape(len(x), groups, -1)
    return np.packbits(holds, axis=-1, bitorder="little").reshape(len(x), -1)


def check(operands: list[tuple[np.ndarray, np.ndarray, bool]], device: str) -> None:
    cases = [
        (threshold(*x.shape, greater=greater, uniform=len(t) < x.shape[1]), (x, t))
        for x, t, greater in operands
    ]
    for (x, t, greater), found in zip(operands, run_kernels(cases, device), strict=True):
        np.testing.assert_array_equal(found, expected(x, t, greater), str((x.shape, greater)))


def from_few_values(seed: int, *shape: int) -> np.ndarray:
    """Floats of which many are equal, and some are special."""
    return np.random.default_rng(seed).choice(SPECIAL, shape)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 70), st.booleans(), st.booleans())


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=2, deadline=None)
@given(shapes=st.lists(SHAPES, min_size=5, max_size=5), seed=st.integers(0))
def test_any_shape_compares_and_packs_like_numpy(
    device: str, shapes: list[tuple[int, int, bool, bool]], seed: int
) -> None:
    check(
        [
            (
                from_few_values(seed + i, m, n),
                from_few_values(seed + i + 99, 1 if uniform else n),
                greater,
            )
            for i, (m, n, greater, uniform) in enumerate(shapes)
        ],
        device,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("greater", [True, False], ids=["ge", "le"])
def test_every_group_begins_at_a_byte(device: str, greater: bool) -> None:
    shapes = [(3, 1, 1), (5, 16, 1), (12, 128, 1), (4, 9, 1), (3, 24, 1), (4, 3, 16), (2, 5, 11)]
    operands = [
        (from_few_values(rows, rows, groups * channels), from_few_values(99, groups * channels))
        for rows, groups, channels in shapes
    ]
    cases = [
        (threshold(rows, channels, groups=groups, greater=greater), given)
        for (rows, groups, channels), given in zip(shapes, operands, strict=True)
    ]
    results = run_kernels(cases, device)
    for (_, groups, _), (x, theta), found in zip(shapes, operands, results, strict=True):
        np.testing.assert_array_equal(found, expected(x, theta, greater, groups), str(x.shape))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("greater", [True, False], ids=["ge", "le"])
def test_ties_signed_zeros_infinities_and_nan_compare_like_numpy(
    device: str, greater: bool
) -> None:
    x, theta = (side.reshape(-1) for side in np.meshgrid(SPECIAL, SPECIAL))
    whole = len(x) // 8 * 8
    check(
        [(x[None], theta, greater), (x[None, :whole], theta[:whole], greater)],
        device,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_integers_compare_and_pack_like_numpy(device: str) -> None:
    ends = np.iinfo(np.int32)
    values = np.array([ends.min, ends.min + 1, -1, 0, 1, ends.max], np.int32)
    random = np.random.default_rng(0)
    shapes = [(1, 32), (5, 64), (6, 16), (12, 8), (3, 7), (9, 96)]
    operands = [(random.choice(values, shape), random.choice(values, shape[1])) for shape in shapes]
    cases = [(threshold(*x.shape, greater=True, dtype="int32"), (x, t)) for x, t in operands]
    for (x, theta), found in zip(operands, run_kernels(cases, device), strict=True):
        np.testing.assert_array_equal(found, expected(x, theta, greater=True), str(x.shape))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("greater", [True, False], ids=["ge", "le"])
def test_one_threshold_serves_all_channels(device: str, greater: bool) -> None:
    shapes = [(1, 32), (5, 64), (6, 16), (12, 8), (3, 7), (9, 96), (8, 128)]
    special = itertools.cycle(SPECIAL)
    check(
        [
            (from_few_values(rows, rows, channels), np.array([theta]), greater)
            for (rows, channels), theta in zip(shapes * 2, special, strict=False)
        ],
        device,
    )


@pytest.mark.parametrize("channels", [1, 7, 9, 20])
def test_bits_after_the_last_channel_are_clear(channels: int) -> None:
    x, theta = np.ones((5, channels), np.float32), np.zeros(channels, np.float32)
    (found,) = run_kernels([(threshold(5, channels, greater=True), (x, theta))])
    assert np.unpackbits(found, axis=-1, bitorder="little").sum(axis=-1).tolist() == [channels] * 5


@pytest.mark.parametrize(("rows", "channels"), [(4, 3), (4, 8), (2, 33), (12, 20), (1, 64)])
def test_a_kernel_touches_nothing_outside_its_buffers(rows: int, channels: int) -> None:
    x, theta = from_few_values(rows, rows, channels), from_few_values(channels, channels)
    if rows * -(-channels // 8) % 4:
        x = np.tile(x, (4, 1))
    found = run_guarded(threshold(*x.shape, greater=True), x, theta)
    np.testing.assert_array_equal(found, expected(x, theta, greater=True))


def test_shapes_share_one_text_where_their_rows_and_steps_leave_the_same_rest() -> None:
    texts: dict[str, set[str]] = {}
    for rows, channels in itertools.product(range(1, 9), (64, 96, 128, 4096)):
        kernel = schedule(threshold(rows, channels, greater=True), "aarch64")
        for name, text in kernel.assembly.items():
            texts.setdefault(name, set()).add(text)
    assert len(texts) == 7 * 2
    assert {len(found) for found in texts.values()} == {1}
