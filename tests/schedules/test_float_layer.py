"""Float layers against numpy in float64."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import built, run_guarded, run_kernels

from bicompile.cost import inorder, trace
from bicompile.float_workloads import float_layer, frame
from bicompile.schedules.microkernels import FloatGemm, multiply


@dataclass(frozen=True)
class Layer:
    """A layer; `outputs` are the image's channels where it is depthwise."""

    image: tuple[int, int, int]
    kernel: tuple[int, int] = (1, 1)
    outputs: int = 4
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    depthwise: bool = False
    bend: str = ""
    residual: bool = False

    @property
    def result(self) -> tuple[int, int, int]:
        rows, columns = (
            (self.image[a] - (self.kernel[a] - 1) * self.dilations[a] - 1) // self.strides[a] + 1
            for a in (0, 1)
        )
        return rows, columns, self.image[2] if self.depthwise else self.outputs

    def operands(self) -> list[np.ndarray]:
        generator = np.random.default_rng(0)
        channels = 1 if self.depthwise else self.image[2]
        shapes = [self.image, (*self.kernel, channels, self.result[2]), self.result[2:]]
        shapes += [self.result] * self.residual
        made = [generator.standard_normal(shape).astype(np.float32) for shape in shapes]
        return [*made[:3], *[np.float32([0.25])] * (self.bend == "prelu"), *made[3:]]

    def expected(self, operands: list[np.ndarray]) -> np.ndarray:
        x, weights, bias = (operand.astype(np.float64) for operand in operands[:3])
        rows, columns, outputs = self.result
        total = np.zeros((rows, columns, outputs))
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                down, across = i * self.dilations[0], j * self.dilations[1]
                seen = x[down :: self.strides[0], across :: self.strides[1]][:rows, :columns]
                if self.depthwise:
                    total += seen * weights[i, j, 0]
                else:
                    total += seen @ weights[i, j]
        total += bias
        slope = {"": 1.0, "relu": 0.0, "prelu": 0.25}[self.bend]
        total = np.maximum(total, slope * total)
        return total + operands[-1] if self.residual else total

    def nest(self) -> object:
        return float_layer(
            self.image,
            self.kernel,
            self.result,
            strides=self.strides,
            dilations=self.dilations,
            depthwise=self.depthwise,
            bend=self.bend,
            residual=self.residual,
        )


def check(layers: list[Layer], device: str) -> None:
    cases = [(layer.nest(), layer.operands()) for layer in layers]
    for layer, (_, operands), found in zip(layers, cases, run_kernels(cases, device), strict=True):
        expected = layer.expected(operands)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * largest, err_msg=layer)


BENDS = st.sampled_from(["", "relu", "prelu"])
DENSE = st.builds(
    Layer,
    st.tuples(st.just(1), st.integers(1, 19), st.integers(1, 40)),
    outputs=st.integers(1, 40),
    bend=BENDS,
    residual=st.booleans(),
)
WINDOWS = st.builds(
    Layer,
    st.tuples(st.integers(5, 9), st.integers(5, 20), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 20),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.booleans(),
    BENDS,
    st.booleans(),
)


@pytest.mark.parametrize("device", ["emulator", "host"])
@settings(max_examples=3, deadline=None)
@given(st.lists(DENSE | WINDOWS, min_size=8, max_size=8, unique=True))
def test_a_layer_computes_like_numpy(device: str, layers: list[Layer]) -> None:
    check(layers, device)


def test_every_rest_of_a_sum_is_added() -> None:
    check([Layer((1, p, k), outputs=5) for p in (1, 4, 5) for k in range(1, 35)], "emulator")


def test_every_rest_of_outputs_is_stored() -> None:
    layers = [Layer((1, p, 3), outputs=n, residual=True) for p in (1, 3, 9) for n in range(1, 20)]
    check(layers, "emulator")


LAYERS = [
    Layer((1, 8, 128), outputs=256, bend="prelu"),
    Layer((19, 19, 16), (5, 5), 32, (2, 2), bend="prelu"),
    Layer((1, 1, 1024), outputs=12),
    Layer((1, 12, 128), (1, 5), depthwise=True, bend="prelu"),
    Layer((1, 13, 7), outputs=19, bend="relu"),
]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_touches_nothing_outside_its_buffers(layer: Layer) -> None:
    operands = layer.operands()
    found = run_guarded(layer.nest(), *operands)
    np.testing.assert_allclose(found, layer.expected(operands), rtol=1e-4, atol=1e-4)


def test_a_product_of_nothing_finite_is_not_hidden() -> None:
    layer = Layer((1, 2, 4), bend="relu")
    operands = layer.operands()
    operands[0][0, 0, 1], operands[0][0, 1, 2] = np.nan, np.inf
    (found,) = run_kernels([(layer.nest(), operands)])
    assert np.isnan(found[0, 0]).all()
    np.testing.assert_array_equal(found[0, 1], np.maximum(np.inf * operands[1][0, 0, 2], 0))


@pytest.mark.parametrize("pads", [(2, 2, 2, 2), (0, 1, 0, 0), (1, 0, 3, 2)])
@pytest.mark.parametrize("image", [(16, 16, 16), (3, 5, 7), (1, 8, 128)])
def test_a_frame_is_zeros_around_the_image(
    image: tuple[int, int, int], pads: tuple[int, int, int, int]
) -> None:
    top, left, bottom, right = pads
    x = np.random.default_rng(0).standard_normal(image).astype(np.float32)
    expected = np.pad(x, [(top, bottom), (left, right), (0, 0)])
    (found,) = run_kernels([(frame(image, pads), [x.reshape(image[0], -1)])])
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_nothing_is_spilled_and_the_stack_holds_the_callers_registers_alone() -> None:
    shape = FloatGemm(8, 13, 21, 5, 80, 32, 608, 304, "prelu", residual=True)
    code = [line.strip() for line in multiply(shape).splitlines() if line.startswith("\t")]
    code = [line for line in code if not line.startswith(".")]
    assert [line for line in code if "sp" in line] == [*code[:5], *code[-6:-1]]


def test_a_kernel_that_reaches_too_far_is_none() -> None:
    assert FloatGemm(1, 1, 1, 1, 4096, 4096).fits()
    assert not FloatGemm(1, 1, 1, 1, 1 << 22, 1 << 22).fits()


def test_the_text_of_a_kernel(golden: Callable[[str, str], None]) -> None:
    golden("float_5x8x32", multiply(FloatGemm(1, 5, 8, 1, 32, 32, bend="prelu", residual=True)))


# Cycles modelled by inorder for cortex-a53; a vector of weights is loaded for one product alone
# where there is one position, so that instructions have another floor there.
BOUNDS = [
    (Layer((1, 8, 256), outputs=128, bend="prelu"), 1.3, 1.1),
    (Layer((1, 8, 128), outputs=256, bend="prelu"), 1.3, 1.1),
    (Layer((1, 8, 256), outputs=128, bend="prelu", residual=True), 1.3, 1.1),
    (Layer((19, 19, 16), (5, 5), 32, (2, 2), bend="prelu"), 1.3, 1.1),
    (Layer((1, 64, 64), outputs=64), 1.3, 1.1),
    (Layer((1, 1, 1024), outputs=12), 1.75, 1.2),
]


@pytest.mark.parametrize(("layer", "instructions", "cycles"), BOUNDS)
def test_a_multiply_add_costs_at_most(layer: Layer, instructions: float, cycles: float) -> None:
    with built([(layer.nest(), layer.operands())]) as (executable, _, _):
        traced = trace.collect(executable, np.zeros(4, np.float32))
    (name,) = (name for name in traced.instructions if name.startswith("float_"))
    rows, columns, outputs = layer.result
    least = rows * columns * layer.kernel[0] * layer.kernel[1] * layer.image[2] * outputs / 4
    assert traced.instructions[name] / least <= instructions
    assert inorder.cycles(traced)[name] / least <= cycles
