from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import run_guarded, run_kernels
from tvm import tirx

from bicompile.workloads import patches

DEVICES = ("emulator", "host")


@dataclass(frozen=True)
class Window:
    """One case: an image of pixels, what slides over it, and spare bytes at a row's end.

    A pixel has so many bytes for each group.
    """

    image: tuple[int, int, int]
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    spare: int = 0
    batch: int = 1
    groups: int = 1

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(
            (self.image[i] + self.pads[i] + self.pads[i + 2] - self.reach(i)) // self.strides[i] + 1
            for i in range(2)
        )

    @property
    def row_bytes(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.image[2] + self.spare

    def reach(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def nest(self) -> tirx.PrimFunc:
        return patches(
            self.pixels().shape,
            self.kernel,
            self.output,
            groups=self.groups,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            row_bytes=self.row_bytes,
        )

    def pixels(self) -> np.ndarray:
        height, width, size = self.image
        shape = (self.batch, height, width, self.groups * size)
        return np.random.default_rng(sum(shape)).integers(1, 256, shape, np.uint8)

    def expected(self) -> np.ndarray:
        """The rows, one tap at a time, straight from what a patch is."""
        rows = np.zeros((self.groups, self.batch, *self.output, self.row_bytes), np.uint8)
        height, width, size = self.image
        pixels = self.pixels().reshape(self.batch, height, width, self.groups, size)
        for y, x in np.ndindex(*self.output):
            for i, j in np.ndindex(*self.kernel):
                at_y = y * self.strides[0] + i * self.dilations[0] - self.pads[0]
                at_x = x * self.strides[1] + j * self.dilations[1] - self.pads[1]
                if 0 <= at_y < height and 0 <= at_x < width:
                    start = (i * self.kernel[1] + j) * size
                    seen = pixels[:, at_y, at_x].swapaxes(0, 1)
                    rows[:, :, y, x, start : start + size] = seen
        return rows.reshape(-1, self.row_bytes)


def check(windows: list[Window], device: str) -> None:
    results = run_kernels([(window.nest(), (window.pixels(),)) for window in windows], device)
    for window, found in zip(windows, results, strict=True):
        np.testing.assert_array_equal(found, window.expected(), str(window))


def pair(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


WINDOWS = st.builds(
    Window,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    pair(1, 4),
    pair(1, 3),
    st.tuples(*[st.integers(0, 3)] * 4),
    pair(1, 3),
    st.integers(0, 15),
    st.integers(1, 2),
    st.integers(1, 3),
).filter(lambda window: min(window.output) > 0)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=2, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=4, max_size=4))
def test_any_window_lays_out_patches_like_numpy(device: str, windows: list[Window]) -> None:
    check(windows, device)


NAMED = {
    "one pixel": Window((1, 1, 1), kernel=(1, 1), spare=15),
    "only the padding": Window((1, 1, 2), kernel=(2, 2), strides=(3, 3), pads=(2, 2, 3, 3)),
    "asymmetric padding": Window((5, 6, 1), pads=(0, 2, 1, 0), spare=7),
    "more padding than kernel": Window((3, 3, 1), kernel=(2, 2), pads=(3, 0, 0, 3)),
    "dilation": Window((7, 8, 3), dilations=(2, 3), pads=(2, 3, 2, 3), spare=5),
    "stride past the end": Window((8, 8, 1), kernel=(2, 2), strides=(3, 5)),
    "stride over what is not seen": Window((9, 7, 2), kernel=(1, 1), strides=(4, 3)),
    "wide pixels": Window((4, 4, 16), kernel=(3, 3), pads=(1, 1, 1, 1)),
    "a kernel row over 64 bytes": Window((3, 9, 17), kernel=(1, 5), pads=(0, 2, 0, 2), spare=11),
    "a row": Window((1, 17, 1), kernel=(1, 5), strides=(1, 2), pads=(0, 2, 0, 2), spare=11),
    "a batch": Window((4, 3, 2), pads=(1, 1, 1, 1), spare=14, batch=3),
    "groups": Window((4, 3, 2), pads=(1, 0, 1, 2), spare=14, groups=3),
    "groups of a batch": Window((3, 4, 1), kernel=(1, 1), spare=15, batch=2, groups=4),
}


@pytest.mark.parametrize("device", DEVICES)
def test_every_kind_of_window_lays_out_patches_like_numpy(device: str) -> None:
    check(list(NAMED.values()), device)


@pytest.mark.parametrize(
    "window",
    [
        Window((4, 4, 1), pads=(1, 1, 1, 1), spare=7),
        Window((4, 3, 4), kernel=(2, 2), pads=(0, 1, 1, 0), dilations=(2, 2), spare=0),
        Window((8, 8, 3), kernel=(1, 1), strides=(2, 2), spare=13),
    ],
    ids=["3x3", "dilated", "strided 1x1"],
)
def test_a_kernel_touches_nothing_outside_its_buffers(window: Window) -> None:
    found = run_guarded(window.nest(), window.pixels())
    np.testing.assert_array_equal(found, window.expected())
