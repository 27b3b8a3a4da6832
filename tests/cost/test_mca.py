import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from bicompile.cost import mca
from bicompile.cost.trace import collect
from bicompile.errors import UserError

X = np.zeros(16, np.float32)
LOOP = """
mov x9, x30; mov x3, #120; movi v0.16b, #0
1: ldr q1, [x0]; cnt v1.16b, v1.16b; uadalp v0.8h, v1.16b; tbz x3, #0, 2f; bl twice
2: subs x3, x3, #1; b.ne 1b
str q0, [x1]; mov x30, x9; ret
.type twice,@function; twice: mul x4, x4, x4; add x4, x4, x4
"""


def installed() -> bool:
    try:
        mca.tool()
    except UserError:
        return False
    return True


needs_mca = pytest.mark.skipif(not installed(), reason="llvm-mca 17 or newer: llvm-19 has it")


@pytest.fixture
def _forgotten_tool() -> Iterator[None]:
    mca.tool.cache_clear()
    yield
    mca.tool.cache_clear()


@needs_mca
@pytest.mark.parametrize("cpu", mca.CPUS)
def test_windows_give_the_cycles_of_the_whole_trace_to_two_percent(program, cpu: str) -> None:
    trace = collect(program(LOOP.replace("#120", "#1000")), X)
    (whole,) = mca._simulate(trace, [tuple(trace.order.tolist())], cpu).values()
    assert sum(mca.cycles(trace, cpu).values()) == pytest.approx(whole, rel=0.02)


@needs_mca
def test_a_call_is_not_charged_100_cycles(program) -> None:
    total = sum(mca.cycles(collect(program(LOOP), X), "cortex-a72").values())
    assert total < 120 * 10


@needs_mca
def test_cycles_are_by_symbol(program) -> None:
    trace = collect(program(LOOP), X)
    assert mca.cycles(trace, "neoverse-n1").keys() == {"model_run", "twice"}


@needs_mca
def test_code_that_llvm_mca_refuses_is_an_error_with_its_message(program) -> None:
    with pytest.raises(UserError, match="llvm-mca for no-such-core does not take the code"):
        mca.cycles(collect(program("nop"), X), "no-such-core")


@pytest.mark.usefixtures("_forgotten_tool")
def test_without_llvm_mca_the_error_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="not installed: apt-get install llvm-19"):
        mca.tool()


@pytest.mark.usefixtures("_forgotten_tool")
def test_an_llvm_mca_without_a_model_of_neoverse_n1_is_named_as_too_old(monkeypatch) -> None:
    told = subprocess.CompletedProcess([], 0, stdout="Debian LLVM version 14.0.6\n  aarch64\n")
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "llvm-mca" else None)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: told)
    with pytest.raises(UserError, match="llvm-mca is too old or lacks aarch64"):
        mca.tool()
