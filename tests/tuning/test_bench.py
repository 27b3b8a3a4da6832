from pathlib import Path

import numpy as np
import pytest
from conftest import A53
from tvm import tirx

from bicompile.devices.emulator import Emulator
from bicompile.dual_workloads import Steps, popcount_epilogue
from bicompile.errors import UserError
from bicompile.schedules.decisions import annotate
from bicompile.tuning.bench import Bench
from bicompile.workloads import grouped_popcount_gemm, patches, popcount_conv, popcount_gemm

TABLE = Steps(scale=4, multiplier=8, shift=4, slope=True)
ONE = Steps(scale=4, multiplier=1, shift=1, slope=True)
RESIDUAL = Steps(scale=1, multiplier=8, shift=1, slope=True, residual=True)
PATCHES = patches(
    (1, 5, 5, 3),
    (3, 3),
    (5, 5),
    strides=(1, 1),
    pads=(1, 1, 1, 1),
    dilations=(1, 1),
    row_bytes=32,
)
NESTS = {
    "gemm": popcount_gemm(5, 7, 32, used_bytes=20),
    "groups": grouped_popcount_gemm(3, 4, 2, 16),
    "table": popcount_epilogue(4, 8, 32, used_bytes=29, planes=2, products=None, steps=TABLE),
    "one multiplier": popcount_epilogue(4, 8, 16, used_bytes=16, planes=2, products=128, steps=ONE),
    "residual": popcount_epilogue(4, 8, 16, used_bytes=16, planes=2, products=128, steps=RESIDUAL),
    "image": popcount_conv(PATCHES, 7, used_bytes=27),
    "plane": popcount_epilogue(4, 8, 16, used_bytes=9, planes=1, products=70, steps=Steps(shift=1)),
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=list(NESTS))
def test_every_kernel_passes_the_check_with_its_defaults(
    nest: tirx.PrimFunc, tmp_path: Path
) -> None:
    bench = Bench("kernel", nest, A53)
    for kernel in annotate(nest, "aarch64", tunable=False):
        executable = bench.build(kernel.mod["main"], tmp_path / "kernel.o")
        with Emulator().load(executable) as loaded:
            bench.check(loaded.run(bench.input[None]).outputs[0])


def test_one_wrong_count_is_told() -> None:
    bench = Bench("kernel", NESTS["gemm"], A53)
    rows, weights = bench._operands
    differing = rows[:, None] ^ weights[None]
    counts = np.bitwise_count(differing).sum(axis=-1, dtype=np.int32)
    bench.check(counts.view(np.float32))
    counts[2, 3] += 1
    with pytest.raises(UserError, match="1 of 35 results are wrong"):
        bench.check(counts.view(np.float32))


def test_one_sum_is_of_bits_that_all_differ() -> None:
    bench = Bench("kernel", NESTS["gemm"], A53)
    rows, weights = bench._operands
    assert np.bitwise_count(rows[0] ^ weights[0]).sum() == 8 * 20
