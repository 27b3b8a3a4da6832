"""Nests for which the byte-interleaved kernel was decided."""

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_runs import built, run_kernels
from test_epilogue_kernels import ONE_PLANE, Layer, two_planes
from test_popcount_conv import Layer as Convolution

from bicompile.cost.registers import check_registers
from bicompile.meaning import meaning, wrong
from bicompile.schedules.decisions import Interleaved, decide, decided, from_json, spaces, to_json
from bicompile.sign_workloads import popcount_threshold
from bicompile.workloads import popcount_gemm

WIDE = Interleaved(32, 4, 4, 0)


def bits(rows: int, row_bytes: int, used: int) -> np.ndarray:
    made = np.random.default_rng(rows).integers(0, 256, (rows, row_bytes), np.uint8)
    made[:, used:] = 0
    return made


def narrowed(outputs: int, chosen: Interleaved = WIDE) -> Interleaved:
    """The choices, which cannot be 32 outputs a tile where there are at most 16."""
    return chosen if outputs > 16 else Interleaved(16, *list(vars(chosen).values())[1:])


@settings(max_examples=2, deadline=None, phases=[Phase.generate])
@given(
    layers=st.lists(st.one_of(ONE_PLANE, two_planes()), min_size=6, max_size=6),
    factor=st.floats(-2, 2, width=32),
    seed=st.integers(0, 1000),
)
def test_every_epilogue_follows_its_counts(layers: list[Layer], factor: float, seed: int) -> None:
    cases = [(layer, case) for layer in layers for case in layer.pair(factor, seed)]
    decided_cases = [
        (decide(nest, narrowed(layer.outputs)), operands) for layer, (nest, operands) in cases
    ]
    for (layer, (nest, operands)), found in zip(cases, run_kernels(decided_cases), strict=True):
        assert wrong(nest, operands, [found]) == 0, str(layer)


def test_bits_of_thresholds_are_exact() -> None:
    cases = []
    for m, n, used, limits in ((5, 50, 16, 5), (3, 17, 50, 1), (2, 64, 63, 2), (1, 9, 150, 1)):
        row_bytes = -(-used // 16) * 16
        nest = popcount_threshold(m, n, row_bytes, used_bytes=used, limits=limits)
        most = np.random.default_rng(n).integers(-1, 8 * used + 2, (limits, n), np.int32)
        most[:, ::2] = 4 * used
        cases.append((nest, [bits(m, row_bytes, used), bits(n, row_bytes, used), most]))
    chosen = [(decide(nest, narrowed(operands[2].shape[1])), operands) for nest, operands in cases]
    for (nest, operands), found in zip(cases, run_kernels(chosen), strict=True):
        np.testing.assert_array_equal(found, meaning(nest, operands, []))


def test_convolutions_count_what_their_image_has() -> None:
    layers = [
        Convolution((6, 6, 2), (5, 5), 32, pads=(2, 2, 2, 2)),
        Convolution((5, 7, 3), (3, 3), 20, strides=(2, 1), pads=(1, 0, 1, 0), batch=2),
        Convolution((1, 9, 64), (1, 3), 48),
    ]
    cases = [(layer.nest(), layer.operands()) for layer in layers]
    chosen = [
        (decide(nest, narrowed(layer.outputs)), operands)
        for layer, (nest, operands) in zip(layers, cases, strict=True)
    ]
    for (nest, operands), found in zip(cases, run_kernels(chosen), strict=True):
        np.testing.assert_array_equal(found, meaning(nest, operands, []))


def test_nothing_is_spilled() -> None:
    for n, used in ((64, 16), (32, 50), (20, 200)):
        row_bytes = -(-used // 16) * 16
        nest = decide(popcount_gemm(4, n, row_bytes, used_bytes=used), WIDE)
        operands = [bits(4, row_bytes, used), bits(n, row_bytes, used)]
        with built([(nest, operands)]) as (executable, _, _):
            assert all(each.spills == 0 for each in check_registers(executable).values())


def test_the_first_values_are_wide_and_of_an_in_order_core() -> None:
    space = spaces(popcount_gemm(4, 64, 16), "aarch64")["interleaved"]
    assert Interleaved(**{name: values[0] for name, values in space.items()}) == WIDE


def test_decisions_are_read_back_from_a_nest_and_a_manifest() -> None:
    chosen = Interleaved(16, 8, 6, 21)
    assert decided(decide(popcount_gemm(4, 64, 16), chosen), "aarch64")[1] == chosen
    assert from_json(to_json(chosen)) == chosen
    assert to_json(chosen)["kernel"] == "interleaved"
