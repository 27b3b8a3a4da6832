"""Popcount GEMMs and depthwise sums of several groups, against what they mean in numpy."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import run_guarded, run_kernels
from tvm import tirx

from bicompile.meaning import meaning
from bicompile.workloads import depthwise, grouped_popcount_gemm

DEVICES = ("emulator", "host")
Pair = tuple[int, int]


def bits(seed: int, *shape: int, below: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, shape, np.uint8)


def check(cases: list[tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]], device: str) -> None:
    for (kernel, operands), found in zip(cases, run_kernels(cases, device), strict=True):
        expected = meaning(kernel, operands, [found])
        np.testing.assert_array_equal(found, expected, str([o.shape for o in operands]))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=2, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
        min_size=4,
        max_size=4,
    )
)
def test_every_group_is_a_popcount_gemm_of_its_own(
    device: str, shapes: list[tuple[int, int, int, int]]
) -> None:
    cases = []
    for groups, m, n, vectors in shapes:
        row_bytes = 16 * vectors
        operands = (
            bits(m, groups * m, row_bytes, below=256),
            bits(n, groups * n, row_bytes, below=256),
        )
        cases.append((grouped_popcount_gemm(groups, m, n, row_bytes), operands))
    check(cases, device)


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution of random bits."""

    size: Pair = (5, 6)
    channels: int = 3
    kernel: Pair = (3, 3)
    each: int = 1
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    batch: int = 1

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(
            (self.size[i] + self.pads[i] + self.pads[i + 2] - self.reach(i)) // self.strides[i] + 1
            for i in range(2)
        )

    def reach(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def case(self) -> tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]:
        image = (self.batch, *self.size, self.channels)
        outputs = self.channels * self.each
        nest = depthwise(
            image,
            self.kernel,
            (*self.output, outputs),
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
        )
        return nest, (bits(1, *image), bits(2, *self.kernel, outputs))


CASES = {
    "one number": Depthwise((1, 1), 1, (1, 1)),
    "a vector of channels": Depthwise((1, 12), 16, (1, 5)),
    "half a vector": Depthwise((4, 5), 8, pads=(1, 1, 1, 1)),
    "odd channels": Depthwise((4, 5), 19, (2, 3), pads=(0, 2, 1, 1)),
    "only the padding": Depthwise((1, 1), 8, (2, 2), strides=(3, 3), pads=(2, 2, 3, 3)),
    "strides and dilations": Depthwise((9, 8), 8, strides=(3, 2), dilations=(2, 3)),
    "several outputs a channel": Depthwise((4, 4), 8, each=3),
    "a batch": Depthwise((3, 4), 16, (2, 2), batch=3, pads=(1, 0, 0, 1)),
    "more taps than a signed byte holds": Depthwise((13, 12), 16, (12, 12), pads=(0, 0, 1, 1)),
}

WINDOWS = st.builds(
    Depthwise,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1, 3, 8, 16]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 2),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
).filter(lambda window: min(window.output) > 0)


@pytest.mark.parametrize("device", DEVICES)
def test_every_kind_of_depthwise_sum_is_exact(device: str) -> None:
    check([case.case() for case in CASES.values()], device)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=2, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=4, max_size=4))
def test_any_depthwise_sum_is_exact(device: str, windows: list[Depthwise]) -> None:
    check([window.case() for window in windows], device)


@pytest.mark.parametrize("bit", [0, 1])
def test_depthwise_sums_reach_their_extremes(bit: int) -> None:
    nest, (image, taps) = Depthwise((11, 11), 16, (11, 11)).case()
    (found,) = run_kernels([(nest, (np.full_like(image, bit), np.ones_like(taps)))])
    assert (found == (121 if bit else -121)).all()


@pytest.mark.parametrize(
    "case",
    [Depthwise((4, 4), 4, pads=(1, 1, 1, 1)), Depthwise((1, 12), 16, (1, 5))],
    ids=["odd", "vector"],
)
def test_a_depthwise_kernel_touches_nothing_outside_its_buffers(case: Depthwise) -> None:
    nest, operands = case.case()
    found = run_guarded(nest, *operands)
    np.testing.assert_array_equal(found, meaning(nest, operands, [found]))
