from pathlib import Path

import pytest

import bicompile
from bicompile.cost.registers import Registers, check_registers, inner_loops, registers_of
from bicompile.errors import UserError

SPILLS = {
    "a loop that loads from the stack": ("1: ldr q0, [sp, #16]; subs x3, x3, #1; b.ne 1b", 1),
    "a loop that stores to the stack": ("1: str q0, [sp]; cbnz x3, 1b", 1),
    "a pair is one instruction": ("1: stp d8, d9, [sp, #32]; cbnz x3, 1b", 1),
    "a loop of one block of several": (
        "1: cbz x4, 2f; ldr q1, [sp]; 2: subs x3, x3, #1; b.ne 1b",
        1,
    ),
    "a block of the loop that lies behind it": (
        "1: cbz x4, 3f; 2: subs x3, x3, #1; b.ne 1b; ret; 3: ldr q1, [sp]; b 2b",
        1,
    ),
    "a frame pointer": ("add x29, sp, #32; 1: ldr q0, [x29, #-16]; cbnz x3, 1b", 1),
    "x29 that is no frame pointer": ("mov x29, x1; 1: ldr q0, [x29]; cbnz x3, 1b", 0),
    "other memory": ("1: ldr q0, [x0]; cbnz x3, 1b", 0),
    "general registers": ("1: ldr x0, [sp]; cbnz x3, 1b", 0),
    "before and after a loop": ("ldr q0, [sp]; 1: cbnz x3, 1b; str q0, [sp]", 0),
    "a loop around a loop": (
        "1: ldr q0, [sp]; mov x4, #5; 2: subs x4, x4, #1; b.ne 2b; cbnz x3, 1b",
        0,
    ),
    "a loop that calls": ("1: ldr q0, [sp]; bl 2f; cbnz x3, 1b; ret; 2: ret", 0),
}


@pytest.mark.parametrize(("lines", "spills"), SPILLS.values(), ids=SPILLS.keys())
def test_spills_of_inner_loops(assemble, lines: str, spills: int) -> None:
    assert registers_of(assemble(lines)).spills == spills


def test_every_vector_register_that_is_named_counts_once(assemble) -> None:
    lines = "eor v0.16b, v1.16b, v2.16b; ldp q2, q31, [x0]; fmov w3, s7"
    assert registers_of(assemble(lines)).used == 5


def test_the_inner_of_two_loops_that_begin_at_one_instruction(assemble) -> None:
    lines = "1: add x4, x4, #1; cbz x4, 1b; mov x5, x6; cbnz x3, 1b"
    assert inner_loops(assemble(lines)) == [frozenset({0, 1, 2, 3})]


def test_loops_beside_each_other_in_a_loop(assemble) -> None:
    lines = "1: nop; 2: cbz x4, 2b; nop; 3: cbz x5, 3b; cbnz x3, 1b"
    assert set(inner_loops(assemble(lines))) == {frozenset({1}), frozenset({3})}


def test_functions_are_told_by_symbol(program) -> None:
    lines = "mov x9, x30; bl spoiled; mov x30, x9; ret; .type spoiled,@function\n"
    found = check_registers(program(lines + "spoiled: str q3, [sp]; cbnz x3, spoiled"))
    assert found == {"model_run": Registers(0, 0), "spoiled": Registers(1, 1)}


def test_another_architecture_is_refused_by_name(host_folder: Path) -> None:
    executable = bicompile.read(host_folder).executable
    if executable.target.arch == "aarch64":
        pytest.skip("this machine is arm64")
    with pytest.raises(UserError, match=r"built for host \(.*compile with --target cortex-a53"):
        check_registers(executable)


@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_no_kernel_of_the_zoo_spills_in_an_inner_loop(tmp_path: Path, width: int) -> None:
    artifact = bicompile.compile(
        "zoo:bifsmnv2-kws12", target="cortex-a53", out=tmp_path / "kws", widths=[width], check=False
    )
    found = check_registers(artifact.executable)
    assert {name: kernel for name, kernel in found.items() if kernel.spills} == {}


def test_no_kernel_of_the_small_network_spills_in_an_inner_loop(compiled_folder: Path) -> None:
    found = check_registers(bicompile.read(compiled_folder).executable)
    assert {name: kernel for name, kernel in found.items() if kernel.spills} == {}
