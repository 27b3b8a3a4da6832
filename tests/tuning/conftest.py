from collections.abc import Callable
from pathlib import Path

import pytest
from tvm import tirx

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.records import Records, open_database, write_about
from bicompile.schedules.decisions import Decisions, decided, spaces
from bicompile.targets import Target, find_target
from bicompile.tuning.bench import Bench
from bicompile.tuning.meter import Meter
from bicompile.tuning.search import Search
from bicompile.tuning.tuner import Job, Tuner
from bicompile.workloads import popcount_gemm

NEST = popcount_gemm(8, 24, 16)

CRASHES = "*(volatile int *)8 = 1;"
WRITES_PAST_ITS_OUTPUT = f"output[{8 * 24}] = 1;"
COMPUTES_NOTHING = ""


class Spoiled(Bench):
    """A bench on which every candidate but one kind runs as it should; that runs C of a test's."""

    spoils: Callable[[Decisions], bool] = staticmethod(lambda _: False)
    body = ""

    def build(self, decided_nest: tirx.PrimFunc, obj: Path) -> Executable:
        executable = super().build(decided_nest, obj)
        if self.spoils(decided(decided_nest, self.target.arch)[1]):
            source = obj.with_suffix(".c")
            source.write_text(f"void model_run(float *x, float *output, void *w) {{{self.body}}}\n")
            toolchain.compile_c(source, obj, self.target)
        return executable


@pytest.fixture
def tuner(tmp_path: Path) -> Callable[..., Tuner]:
    """Makes tuners of one small kernel whose records lie in the test's folder."""

    def make(
        meter: Meter,
        target: Target,
        trials: int,
        spoils: Callable[[Decisions], bool] = lambda _: False,
        body: str = "",
        changed: Callable[[Job], None] = lambda _: None,
    ) -> Tuner:
        folder = tmp_path / "records"
        write_about(folder, meter.unit, meter.source)
        records = Records(folder, meter.unit, meter.source, open_database(folder))
        bench = Spoiled("kernel", NEST, target)
        bench.spoils, bench.body = spoils, body
        job = Job(bench, trials, Search(spaces(NEST, target.arch)))
        return Tuner([job], target, records, meter, changed)

    return make


A53 = find_target("cortex-a53")
