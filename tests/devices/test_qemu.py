from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bicompile.artifact import Executable
from bicompile.devices import DeviceFault, open_device
from bicompile.errors import UserError

Program = Callable[..., Executable]

X = np.zeros((3, 16), np.float32)


@pytest.mark.parametrize(
    ("asm", "signal"),
    [
        ("udf #0", "SIGILL"),
        ("mov x3, #0; ldr x3, [x3]", "SIGSEGV"),
        ("str w3, [x1, #64]", "SIGSEGV"),
        ("ldr w3, [x0, #64]", "SIGSEGV"),
        ("str w3, [x2, #64]", "SIGSEGV"),
        ("brk #1", "SIGTRAP"),
    ],
)
def test_a_crash_names_its_signal(program: Program, asm: str, signal: str) -> None:
    with open_device("qemu").load(program(asm=asm)) as loaded, pytest.raises(DeviceFault) as caught:
        loaded.run(X)
    assert str(caught.value) == (
        f"model_run was killed by {signal} in run 1 of 3 under qemu; "
        "run it on the emulator, which says where"
    )


def test_a_crash_names_the_run_and_later_batches_still_run(program: Program) -> None:
    x = X.copy()
    x[1] = 1
    crash_on_one = "ldr s0, [x0]; fcmp s0, #0.0; b.eq 1f; udf #0; 1: str s0, [x1]"
    with open_device("qemu").load(program(asm=crash_on_one)) as loaded:
        with pytest.raises(DeviceFault, match="SIGILL in run 2 of 3"):
            loaded.run(x)
        assert loaded.run(x[:1]).outputs[0, 0] == 0


def test_a_program_that_leaves_early_is_a_fault(program: Program) -> None:
    leave = "mov x8, #93; mov x0, #0; svc #0"
    with (
        open_device("qemu").load(program(asm=leave)) as loaded,
        pytest.raises(DeviceFault, match="ended with status 0 in run 1 of 3"),
    ):
        loaded.run(X)


def test_the_processor_is_that_of_the_target(program: Program) -> None:
    dot = ".arch armv8.2-a+dotprod; sdot v0.4s, v1.16b, v2.16b; str q0, [x1]"
    with open_device("qemu").load(program(asm=dot, target="neoverse-n1")) as loaded:
        loaded.run(X)
    with (
        open_device("qemu").load(program(asm=dot, target="cortex-a53")) as loaded,
        pytest.raises(DeviceFault, match="SIGILL"),
    ):
        loaded.run(X)


def test_a_missing_qemu_is_one_sentence(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = program(asm="nop")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        open_device("qemu").load(executable)
    assert str(caught.value) == "qemu-aarch64 is not installed: apt-get install qemu-user"
