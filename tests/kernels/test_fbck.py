"""The hand kernel against numpy, on the emulator."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bicompile.cost import inorder
from bicompile.cost.registers import check_registers
from bicompile.cost.trace import Trace, collect
from bicompile.errors import UserError
from bicompile.schedules import kernels
from bicompile.targets import Target

Run = Callable[..., np.ndarray]

OVERFLOWS = [240, 248, 256, 31 * 8 * 16, 31 * 8 * 16 + 1]
SEGMENTS = [128 * rounds for rounds in (1, 2, 3, 30, 31, 32, 33, 60, 61, 62)]


def packed(seed: int, rows: int, k: int) -> np.ndarray:
    bits = np.random.default_rng(seed).integers(0, 2, (rows, k), dtype=np.uint8)
    return np.packbits(bits, axis=1, bitorder="little")


def counts(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a[:, None] ^ w[None]).sum(axis=-1, dtype=np.int32)


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 70),
    n=st.integers(1, 13),
    k=st.integers(1, 900),
    first=st.sampled_from("aw"),
    seed=st.integers(0, 9),
)
def test_counts_are_those_of_numpy(hand_kernel, m, n, k, first, seed) -> None:
    a, w = packed(seed, m, k), packed(seed + 10, n, k)
    np.testing.assert_array_equal(hand_kernel.run(a, w, first=first), counts(a, w))


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 9), n=st.integers(1, 9), k=st.integers(1, 900), seed=st.integers(0, 9))
def test_float_results_are_the_dot_products(hand_kernel, m, n, k, seed) -> None:
    a, w = packed(seed, m, k), packed(seed + 10, n, k)
    np.testing.assert_array_equal(hand_kernel.run(a, w, k), k - 2 * counts(a, w))


@pytest.mark.parametrize("k", OVERFLOWS + SEGMENTS)
def test_no_lane_overflows_when_all_bits_differ(hand_kernel, k: int) -> None:
    a, w = packed(0, 4, k), packed(0, 5, k)
    a[:], w[:] = np.packbits(np.ones(k, np.uint8), bitorder="little"), 0
    np.testing.assert_array_equal(hand_kernel.run(a, w), np.full((4, 5), k, np.int32))


@pytest.mark.parametrize("k", SEGMENTS)
def test_every_number_of_rounds_in_a_segment_counts_right(hand_kernel, k: int) -> None:
    a, w = packed(0, 5, k), packed(1, 4, k)
    np.testing.assert_array_equal(hand_kernel.run(a, w), counts(a, w))


@pytest.mark.parametrize("k", [248 * 128, 248 * 128 + 1, 249 * 128, 496 * 128, 496 * 128 + 9])
def test_rows_longer_than_16_bit_sums_count_right(hand_kernel, k: int) -> None:
    a, w = packed(0, 3, k), packed(1, 5, k)
    a[0], w[0] = ~w[0], w[0]
    a[0, -1] = 0
    np.testing.assert_array_equal(hand_kernel.run(a, w, k), k - 2 * counts(a, w))


def strip(hand_kernel, name: str, k: int) -> Trace:
    bits = k if "f32" in name else None
    trace = collect(*hand_kernel.call(packed(0, 16, k), packed(1, 8, k), bits))
    assert trace.instructions[name]
    return trace


STRIPS = [
    ("fbck_strip_f32_one", 128),
    ("fbck_strip_f32", 256),
    ("fbck_strip_f32", 31 * 8 * 16),
    ("fbck_strip_f32", 64 * 128),
    ("fbck_strip_f32_tail", 400),
]


@pytest.mark.parametrize(("name", "k"), STRIPS)
def test_nothing_is_spilled_between_tiles(hand_kernel, name: str, k: int) -> None:
    trace = strip(hand_kernel, name, k)
    calls = min(t for b, t in zip(trace.blocks, trace.times, strict=True) if b.symbol == name)
    for block, times in zip(trace.blocks, trace.times, strict=True):
        if block.symbol == name and times > calls:
            assert not [i.text for i in block.instructions if "sp" in i.text]


@pytest.mark.parametrize(
    ("name", "k", "constants"),
    [
        ("fbck_strip_i32", 512, set()),
        ("fbck_strip_f32", 512, {6}),
        ("fbck_strip_f32_tail", 400, {6, 7}),
    ],
)
def test_the_five_partitions_take_30_registers(hand_kernel, name, k, constants) -> None:
    trace = strip(hand_kernel, name, k)
    blocks = [block for block in trace.blocks if block.symbol == name]
    named = {n for block in blocks for i in block.instructions for n in i.vector_registers}
    assert named - constants == set(range(32)) - {6, 7}
    assert len(named - constants) == 30


def test_no_function_of_the_kernel_spills_in_an_inner_loop(hand_kernel) -> None:
    executable, _ = hand_kernel.call(packed(0, 16, 512), packed(1, 8, 512), 512)
    found = check_registers(executable)
    assert len([name for name in found if name.startswith("fbck_strip")]) == 6
    assert {name: function for name, function in found.items() if function.spills} == {}
    assert found["fbck_strip_i32"].used == 30


def test_a_tile_of_one_round_is_bound_by_its_vector_instructions_alone(hand_kernel) -> None:
    def cycles(m: int) -> int:
        trace = collect(*hand_kernel.call(packed(0, m, 128), packed(1, 4, 128), 128))
        return inorder.cycles(trace)["fbck_strip_f32_one"]

    vector_instructions = 8 + 8 + 8 + 7 + 5  # EOR, CNT, fold, sums across lanes, K - 2 p
    assert (cycles(68) - cycles(4)) / 32 == vector_instructions


def test_a_round_is_bound_by_its_vector_instructions_alone(hand_kernel) -> None:
    def cycles(rounds: int) -> int:
        trace = collect(*hand_kernel.call(packed(0, 2, 128 * rounds), packed(1, 4, 128 * rounds)))
        return inorder.cycles(trace)["fbck_strip_i32"]

    assert cycles(20) - cycles(10) == 10 * 24  # EOR, CNT and ADD of eight cells


def test_weights_of_a_row_keep_their_order_and_a_tail_comes_first_after_zeros() -> None:
    rows = np.arange(1, 5, dtype=np.uint8)[:, None] * 32 + np.arange(18, dtype=np.uint8)
    prepared = kernels.prepare_weights(rows)
    assert prepared.shape == (1, 2, 4, 16)
    np.testing.assert_array_equal(prepared[0, 0, 1], [0] * 14 + rows[1, 16:].tolist())
    np.testing.assert_array_equal(prepared[0, 1], rows[:, :16])


def test_the_last_group_holds_the_last_four_rows() -> None:
    rows = np.arange(6, dtype=np.uint8)[:, None].repeat(16, axis=1)
    prepared = kernels.prepare_weights(rows)
    assert prepared[:, 0, :, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="written for arm64 and cannot be built for host"):
        kernels.assembly(Target("host", "x86_64", "x86-64", (), None, ""))
