"""What follows a product, with one multiplier of all outputs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_runs import built, run_kernels
from tvm import tirx

from bicompile.cost import trace
from bicompile.cost.registers import check_registers
from bicompile.dual_workloads import Steps, popcount_epilogue
from bicompile.meaning import wrong

Case = tuple[tirx.PrimFunc, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Layer:
    """One product and the steps that follow it; every step's operands are random."""

    rows: int
    outputs: int
    used: int
    steps: Steps
    has_table: bool = False

    def case(self, multiplier: np.ndarray, seed: int = 0) -> Case:
        """The nest for a multiplier of shape (1,) or (N,), and its operands."""
        steps = replace(self.steps, multiplier=multiplier.size)
        planes = 2 if steps.scale else 1
        nest = popcount_epilogue(
            self.rows,
            self.outputs,
            -(-self.used // 16) * 16,
            used_bytes=self.used,
            planes=planes,
            products=None if self.has_table else 8 * self.used,
            steps=steps,
        )
        random = np.random.default_rng(seed)
        operands = []
        for side in (planes * self.rows, self.outputs):
            bits = random.integers(0, 256, (side, self.used), np.uint8)
            operands.append(np.pad(bits, [(0, 0), (0, -self.used % 16)]))
        for parameter in nest.params[2:-1]:
            shape = tuple(int(dim) for dim in parameter.ty.shape)
            if parameter.name == "products":
                operands.append(2 * random.integers(-100, 100, shape, np.int32))
            elif parameter.name == "multiplier":
                operands.append(multiplier)
            elif parameter.name == "slope":
                operands.append(np.array([0.25], np.float32))
            else:
                operands.append(random.standard_normal(shape).astype(np.float32))
        return nest, tuple(operands)

    def pair(self, factor: float, seed: int = 0) -> list[Case]:
        """The same layer with one multiplier, and with as many equal ones as outputs."""
        return [self.case(np.full(size, factor, np.float32), seed) for size in (1, self.outputs)]


SIDES = (st.integers(1, 5), st.integers(1, 9).map(lambda quads: 4 * quads))
USED = st.sampled_from([1, 9, 16, 32, 50, 80])
ONE_PLANE = st.builds(
    Layer,
    *SIDES,
    USED,
    st.builds(Steps, shift=st.integers(0, 1), slope=st.booleans(), residual=st.booleans()),
)


@st.composite
def two_planes(draw: st.DrawFn) -> Layer:
    rows, outputs = (draw(side) for side in SIDES)
    residual = draw(st.booleans())
    shift = draw(st.sampled_from([0, 1] if residual else [0, 1, rows]))
    steps = Steps(
        scale=draw(st.sampled_from([1, rows])),
        shift=shift,
        slope=draw(st.booleans()),
        residual=residual,
    )
    has_table = not residual and draw(st.booleans())
    return Layer(rows, outputs, draw(USED), steps, has_table)


@pytest.mark.parametrize("device", ["emulator", "host"])
@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(
    layers=st.lists(st.one_of(ONE_PLANE, two_planes()), min_size=6, max_size=6),
    factor=st.floats(-2, 2, width=32),
    seed=st.integers(0, 1000),
)
def test_one_multiplier_gives_the_bits_of_equal_ones(
    device: str, layers: list[Layer], factor: float, seed: int
) -> None:
    cases = [case for layer in layers for case in layer.pair(factor, seed)]
    results = run_kernels(cases, device)
    for index, layer in enumerate(layers):
        one, each = results[2 * index : 2 * index + 2]
        nest, operands = cases[2 * index]
        assert wrong(nest, operands, [one]) == 0, str(layer)
        np.testing.assert_array_equal(one, each, str(layer))


BLOCKS = {
    "256 to 128": Layer(8, 128, 32, Steps(scale=8, shift=1, slope=True)),
    "128 to 256": Layer(8, 256, 16, Steps(scale=8, shift=1, slope=True, residual=True)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_one_multiplier_is_loaded_once(name: str) -> None:
    layer = BLOCKS[name]
    counted = []
    for case in layer.pair(0.5):
        with built([case]) as (executable, _, _):
            traced = trace.collect(executable, np.zeros(4, np.float32))
            assert all(each.spills == 0 for each in check_registers(executable).values())
        counted.append(sum(n for name, n in traced.instructions.items() if name != "model_run"))
    one, each = counted
    loads = layer.rows * layer.outputs // 8  # two vectors a load
    assert each - one == loads + layer.rows - 1  # and a pointer for every row
