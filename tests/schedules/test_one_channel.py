import numpy as np
import pytest
from kernel_runs import run_guarded, run_kernels
from numpy.lib.stride_tricks import sliding_window_view
from tvm import tirx

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


def layer(
    kernel: tuple[int, int], stride: int, outputs: int
) -> tuple[tirx.PrimFunc, list[np.ndarray], np.ndarray]:
    """A nest, its operands, and what numpy makes of them."""
    rng = np.random.default_rng(0)
    image, output, pads = (12, 16), (4, 4), (kernel[0] // 2, kernel[1] // 2)
    x = rng.standard_normal(image).astype(np.float32)
    weights = rng.standard_normal((outputs, *kernel)).astype(np.float32)
    bias, slope = rng.standard_normal(outputs).astype(np.float32), np.float32([0.25])
    nest = one_channel(image, output, outputs, kernel, strides=(stride, stride), pads=pads)
    framed = np.pad(x, [(before, 16) for before in pads])
    seen = sliding_window_view(framed, kernel)[::stride, ::stride][: output[0], : output[1]]
    expected = np.einsum("rcij,oij->rco", seen, weights) + bias
    return nest, [x, weights, bias, slope], np.where(expected > 0, expected, expected / 4)


@pytest.mark.parametrize("outputs", [16, 32])
@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_a_convolution_of_one_channel_is_right(
    kernel: tuple[int, int], stride: int, outputs: int
) -> None:
    nest, operands, expected = layer(kernel, stride, outputs)
    assert schedule(nest, "aarch64").assembly
    np.testing.assert_allclose(run_guarded(nest, *operands), expected, 1e-5, 1e-5)


@pytest.mark.parametrize("outputs", [3, 8, 24, 40, 72])
def test_any_number_of_outputs_is_right_on_this_machine(outputs: int) -> None:
    cases = [layer(kernel, stride, outputs) for kernel, stride in [*KERNELS, ((9, 9), 1)]]
    found = run_kernels([(nest, operands) for nest, operands, _ in cases], "host")
    for (_, _, expected), each in zip(cases, found, strict=True):
        np.testing.assert_allclose(each, expected, 1e-5, 1e-5)
