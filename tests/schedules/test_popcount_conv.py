from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import built, run_guarded, run_kernels
from tvm import tirx

from bicompile.cost import inorder, trace
from bicompile.cost.registers import check_registers
from bicompile.dual_workloads import Steps, popcount_epilogue
from bicompile.meaning import meaning, patches_of, wrong
from bicompile.schedules.decisions import Tile, decide
from bicompile.schedules.popcount_conv import reads_image
from bicompile.workloads import patches, popcount_conv, popcount_gemm

DEVICES = ("emulator", "host")


@dataclass(frozen=True)
class Layer:
    """One case: an image of (H, W, B), and a kernel that slides over it."""

    image: tuple[int, int, int]
    kernel: tuple[int, int] = (3, 3)
    outputs: int = 16
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    batch: int = 1

    @property
    def output(self) -> tuple[int, int]:
        rows, columns = (
            (self.image[i] + self.pads[i] + self.pads[i + 2] - self.reach(i)) // self.strides[i] + 1
            for i in range(2)
        )
        return rows, columns

    def reach(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    @property
    def rows(self) -> int:
        return self.batch * self.output[0] * self.output[1]

    @property
    def used(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.image[2]

    @property
    def row_bytes(self) -> int:
        return -(-self.used // 16) * 16

    def patches(self) -> tirx.PrimFunc:
        return patches(
            (self.batch, *self.image),
            self.kernel,
            self.output,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            row_bytes=self.row_bytes,
        )

    def nest(self) -> tirx.PrimFunc:
        return popcount_conv(self.patches(), self.outputs, used_bytes=self.used)

    def finished(self, *, gathers: bool = True) -> tirx.PrimFunc:
        return popcount_epilogue(
            self.rows,
            self.outputs,
            self.row_bytes,
            used_bytes=self.used,
            planes=1,
            products=8 * self.used,
            steps=Steps(),
            patches=self.patches() if gathers else None,
        )

    def bits(self) -> np.ndarray:
        height, width, size = self.image
        shape = (self.batch * height, width * size)
        return np.random.default_rng(self.used).integers(0, 256, shape, np.uint8)

    def weights(self) -> np.ndarray:
        filled = np.zeros((self.outputs, self.row_bytes), np.uint8)
        shape = (self.outputs, self.used)
        filled[:, : self.used] = np.random.default_rng(self.outputs).integers(0, 256, shape)
        return filled

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        return self.bits(), self.weights()


def expected(layer: Layer, bits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The counts, one tap at a time, straight from what a convolution is."""
    height, width, size = layer.image
    image = bits.reshape(layer.batch, height, width, size)
    taps = weights[:, : layer.used].reshape(-1, *layer.kernel, size)
    counts = np.zeros((layer.batch, *layer.output, layer.outputs), np.int32)
    for y, x in np.ndindex(*layer.output):
        for i, j in np.ndindex(*layer.kernel):
            row = y * layer.strides[0] + i * layer.dilations[0] - layer.pads[0]
            column = x * layer.strides[1] + j * layer.dilations[1] - layer.pads[1]
            inside = 0 <= row < height and 0 <= column < width
            seen = image[:, row, column] if inside else np.zeros((layer.batch, size), np.uint8)
            differing = seen[:, None] ^ taps[:, i, j]
            counts[:, y, x] += np.bitwise_count(differing).sum(axis=-1, dtype=np.int32)
    return counts.reshape(-1, layer.outputs)


def check(layers: list[Layer], device: str) -> None:
    results = run_kernels([(layer.nest(), layer.operands()) for layer in layers], device)
    for layer, found in zip(layers, results, strict=True):
        np.testing.assert_array_equal(found, expected(layer, *layer.operands()), str(layer))


def pair(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


LAYERS = st.builds(
    Layer,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    pair(1, 5),
    st.integers(1, 40),
    pair(1, 3),
    st.tuples(*[st.integers(0, 3)] * 4),
    pair(1, 3),
    st.integers(1, 2),
).filter(lambda each: min(each.output) > 0 and reads_image(each.patches(), each.outputs))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=3, deadline=None)
@given(layers=st.lists(LAYERS, min_size=4, max_size=4))
def test_any_layer_counts_like_numpy(device: str, layers: list[Layer]) -> None:
    check(layers, device)


NAMED = {
    "one pixel": Layer((1, 1, 1), kernel=(1, 1)),
    "only the padding": Layer((1, 1, 2), kernel=(2, 2), strides=(3, 3), pads=(2, 2, 3, 3)),
    "asymmetric padding": Layer((5, 6, 1), pads=(0, 2, 1, 0)),
    "no padding": Layer((6, 7, 2), kernel=(5, 5)),
    "what no position sees": Layer((9, 8, 2), strides=(4, 3)),
    "padding past what is seen": Layer((6, 6, 1), strides=(2, 2), pads=(0, 0, 1, 1)),
    "dilation": Layer((9, 9, 2), dilations=(2, 3), pads=(2, 3, 2, 3)),
    "a row": Layer((1, 17, 8), kernel=(1, 5), strides=(1, 2), pads=(0, 2, 0, 2)),
    "a long row": Layer((1, 9, 64), kernel=(1, 3)),
    "pixels of no whole vectors": Layer((3, 5, 9), kernel=(1, 1)),
    "tails": Layer((8, 8, 2), kernel=(5, 5), outputs=19, pads=(2, 2, 2, 2)),
    "a batch": Layer((4, 3, 2), pads=(1, 1, 1, 1), batch=3),
    "a batch without padding": Layer((4, 5, 8), batch=2),
}


@pytest.mark.parametrize("device", DEVICES)
def test_every_kind_of_layer_counts_like_numpy(device: str) -> None:
    check(list(NAMED.values()), device)


@pytest.mark.parametrize("name", NAMED)
def test_the_check_computes_it_like_numpy(name: str) -> None:
    layer = NAMED[name]
    found = meaning(layer.nest(), layer.operands(), ())
    np.testing.assert_array_equal(found, expected(layer, *layer.operands()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("planes", [1, 2])
def test_what_follows_is_computed_like_numpy(device: str, planes: int) -> None:
    layer = Layer((5, 6, 2), kernel=(5, 5), outputs=20, pads=(2, 2, 2, 2), batch=planes)
    rows = layer.rows // planes
    generator = np.random.default_rng(0)
    steps = Steps(int(planes == 2), multiplier=20, shift=1, slope=True, residual=True)
    nest = popcount_epilogue(
        rows,
        layer.outputs,
        layer.row_bytes,
        used_bytes=layer.used,
        planes=planes,
        products=400,
        steps=steps,
        patches=layer.patches(),
    )
    shapes = [(steps.scale,)] * (planes - 1) + [(20,), (1, 20), (1,), (rows, 20)]
    others = [generator.random(shape, np.float32) for shape in shapes]
    operands = (*layer.operands(), *others)
    (found,) = run_kernels([(nest, operands)], device)
    assert wrong(nest, operands, [found]) == 0


def test_a_tile_of_patches_counts_the_same() -> None:
    layer = NAMED["tails"]
    nest = decide(layer.nest(), Tile(4, 1))
    (found,) = run_kernels([(nest, layer.operands())])
    np.testing.assert_array_equal(found, expected(layer, *layer.operands()))


@pytest.mark.parametrize(
    "layer",
    [
        Layer((8, 8, 2), kernel=(5, 5), pads=(2, 2, 2, 2)),
        Layer((8, 8, 1)),
        Layer((4, 4, 8), outputs=20),
        Layer((1, 8, 4), kernel=(1, 3), outputs=18, pads=(0, 1, 0, 1)),
    ],
    ids=["framed", "3x3", "several chunks", "a row"],
)
def test_a_kernel_touches_nothing_outside_its_buffers(layer: Layer) -> None:
    found = run_guarded(layer.nest(), *layer.operands())
    np.testing.assert_array_equal(found, expected(layer, *layer.operands()))


def test_patches_lie_in_memory_where_they_cost_less() -> None:
    three = Layer((8, 8, 8), pads=(1, 1, 1, 1)).patches()
    assert reads_image(three, 64)
    assert not reads_image(three, 256)
    assert not reads_image(Layer((8, 8, 16)).patches(), 16)


def test_patches_are_what_every_position_sees() -> None:
    layer = NAMED["dilation"]
    (rows,) = run_kernels([(layer.patches(), (layer.bits(),))])
    found = patches_of(layer.nest(), layer.bits())
    np.testing.assert_array_equal(found, rows[:, : layer.used])


def cost(cases: list[tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]]) -> tuple[int, int]:
    """Instructions and modelled cycles of kernels, without the entry that calls them."""
    with built(cases) as (executable, _, _):
        traced = trace.collect(executable, np.zeros(4, np.float32))
    by_function = (traced.instructions, inorder.cycles(traced))
    instructions, cycles = (
        sum(count for name, count in counts.items() if name != "model_run")
        for counts in by_function
    )
    return instructions, cycles


# Instructions and cycles modelled by inorder for cortex-a53, for a unit; frame and all.
COSTS = {
    "5x5": (Layer((8, 8, 2), kernel=(5, 5), outputs=32, pads=(2, 2, 2, 2)), 2.9, 2.65),
    "3x3": (Layer((8, 8, 8), outputs=64, pads=(1, 1, 1, 1)), 3.25, 2.9),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_layer_costs_at_most_and_less_than_patches(name: str) -> None:
    layer, most_instructions, most_cycles = COSTS[name]
    bits, weights = layer.operands()
    units = layer.rows * layer.outputs * -(-8 * layer.used // 128)
    instructions, cycles = cost([(layer.finished(), (bits, weights))])
    assert instructions / units <= most_instructions
    assert cycles / units <= most_cycles
    rows = np.zeros((layer.rows, layer.row_bytes), np.uint8)
    before = cost([(layer.patches(), (bits,)), (layer.finished(gathers=False), (rows, weights))])
    assert instructions < before[0]
    assert cycles < before[1]


@pytest.mark.parametrize("name", COSTS)
def test_no_register_is_spilled(name: str) -> None:
    layer = COSTS[name][0]
    with built([(layer.finished(), layer.operands())]) as (executable, _, _):
        assert all(each.spills == 0 for each in check_registers(executable).values())


def test_counts_of_rows_and_of_their_image_are_the_same() -> None:
    layer = NAMED["no padding"]
    rows = np.zeros((layer.rows, layer.row_bytes), np.uint8)
    rows[:, : layer.used] = patches_of(layer.nest(), layer.bits())
    nest = popcount_gemm(layer.rows, layer.outputs, layer.row_bytes, used_bytes=layer.used)
    cases = [(nest, (rows, layer.weights())), (layer.nest(), layer.operands())]
    np.testing.assert_array_equal(*run_kernels(cases))
