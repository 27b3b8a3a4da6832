import numpy as np
import pytest
from kernel_runs import run_guarded
from numpy.lib.stride_tricks import sliding_window_view

from bicompile.dual_workloads import one_channel
from bicompile.schedules import schedule

KERNELS = [
    ((1, 1), 1),
    ((1, 9), 1),
    ((2, 2), 2),
    ((3, 3), 1),
    ((3, 4), 2),
    ((5, 5), 2),
    ((5, 3), 3),
    ((7, 6), 2),
]


@pytest.mark.parametrize("outputs", [16, 32])
@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_a_convolution_of_one_channel_is_right(
    kernel: tuple[int, int], stride: int, outputs: int
) -> None:
    rng = np.random.default_rng(0)
    image, output, pads = (12, 16), (4, 4), (kernel[0] // 2, kernel[1] // 2)
    x = rng.standard_normal(image).astype(np.float32)
    weights = rng.standard_normal((outputs, *kernel)).astype(np.float32)
    bias, slope = rng.standard_normal(outputs).astype(np.float32), np.float32([0.25])
    nest = one_channel(image, output, outputs, kernel, strides=(stride, stride), pads=pads)
    assert schedule(nest, "aarch64").assembly
    framed = np.pad(x, [(before, 16) for before in pads])
    seen = sliding_window_view(framed, kernel)[::stride, ::stride][: output[0], : output[1]]
    expected = np.einsum("rcij,oij->rco", seen, weights) + bias
    found = run_guarded(nest, x, weights, bias, slope)
    np.testing.assert_allclose(found, np.where(expected > 0, expected, expected / 4), 1e-5, 1e-5)
