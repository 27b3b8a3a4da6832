"""Calls that repeat are in the entry once, and every branch still makes its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from tvm import te

from bicompile.artifact import Executable, TensorSpec
from bicompile.branches import Branch
from bicompile.build import build_branches
from bicompile.cases import CONSTANTS, Argument, PlacedCall, Run, Step, find_cases
from bicompile.devices import open_device
from bicompile.driver import ENTRY, driver_source
from bicompile.memory import plan_memory
from bicompile.program import Buffer, Call, Program
from bicompile.scheduling import schedule_programs
from bicompile.targets import find_target


def run(kernel: str, *constants: int, to: int = 0) -> Run:
    """One call of a kernel that reads constants and writes to the workspace."""
    places = [Argument(CONSTANTS, offset) for offset in constants]
    return (PlacedCall(kernel, (*places, Argument("work", to))),)


def expanded(cases: Sequence[Run], steps: Sequence[Step]) -> list[PlacedCall]:
    """The calls that a branch makes."""

    def known(argument: Argument, step: Step) -> Argument:
        if argument.parameter is None:
            return argument
        offset = argument.offset + step.parameters[argument.parameter]
        return Argument(argument.base, offset)

    return [
        replace(call, arguments=tuple(known(argument, step) for argument in call.arguments))
        for step in steps
        for call in cases[step.case]
    ]


RUNS = st.builds(
    lambda kernel, constants, to: run(kernel, *constants, to=to),
    st.sampled_from("ab"),
    st.lists(st.integers(0, 3), min_size=2, max_size=2),
    st.sampled_from([0, 64]),
)


@given(st.lists(st.lists(RUNS, max_size=12), min_size=1, max_size=3))
def test_the_steps_of_a_branch_are_its_calls(branches: list[list[Run]]) -> None:
    cases, steps = find_cases(branches)
    for own, runs in zip(steps, branches, strict=True):
        assert expanded(cases, own) == [call for run in runs for call in run]


def test_blocks_that_differ_in_constants_are_one_case() -> None:
    blocks = [call for n in range(6) for call in (run("a", 64 * n), run("b", 640 + 8 * n))]
    cases, (steps,) = find_cases([[run("front"), *blocks, run("tail")]])
    assert [[call.kernel for call in case] for case in cases] == [["front"], ["a", "b"], ["tail"]]
    assert [step.case for step in steps] == [0, *[1] * 6, 2]


def test_constants_that_lie_equally_far_apart_share_a_parameter() -> None:
    cases, (steps,) = find_cases([[run("a", 100 * n, 100 * n + 64) for n in range(9)]])
    (((found,),), _) = cases, steps
    assert found.arguments[:2] == (Argument(CONSTANTS, 0, 0), Argument(CONSTANTS, 64, 0))
    assert [step.parameters for step in steps] == [(100 * n,) for n in range(9)]


def test_a_constant_that_lies_at_one_place_is_no_parameter() -> None:
    cases, (steps,) = find_cases([[run("a", 100 * n, 4096) for n in range(9)]])
    assert cases[0][0].arguments[1] == Argument(CONSTANTS, 4096)
    assert {len(step.parameters) for step in steps} == {1}


def test_other_buffers_are_another_case() -> None:
    cases, (steps, _) = find_cases([[run("a", n, to=n % 2) for n in range(8)], [run("a", 5, to=1)]])
    assert len(cases) == 2
    assert [step.case for step in steps] == [0, 1] * 4


def test_a_branch_that_hardly_repeats_itself_is_one_case() -> None:
    cases, steps = find_cases([[run("a", 0), run("b", 8), run("a", 16), run("c", 24)]])
    assert len(cases) == 1
    assert steps == [[Step(0, ())]]


def sums(constants: Sequence[np.ndarray]) -> Program:
    """A program that adds constants to its input, a call each, through buffers in turn."""
    shape = constants[0].shape
    given_, added = (te.placeholder(shape, "float32", name) for name in ("given", "added"))
    total = te.compute(shape, lambda i: given_[i] + added[i], "total")
    kernel = te.create_prim_func([given_, added, total]).without_attr("global_symbol")
    names = ["x", *(f"sum{i}" for i in range(len(constants) - 1)), "y"]
    calls = [Call("add", (names[i], f"c{i}"), (names[i + 1],), "") for i in range(len(constants))]
    buffers = {name: Buffer(shape, "float32") for name in names}
    table = {f"c{i}": array for i, array in enumerate(constants)}
    return Program({"add": kernel}, buffers, table, tuple(calls), "x", "y")


def branches_of(constants: np.ndarray, counts: dict[int | None, int], arch: str) -> list[Branch]:
    programs = schedule_programs([sums(constants[:count]) for count in counts.values()], arch)
    return [Branch(w, p, plan_memory(p)) for w, p in zip(counts, programs, strict=True)]


def whole_numbers(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(-99, 99, (rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("device", "name"), [("emulator", "cortex-a53"), ("host", "host")])
@pytest.mark.parametrize("counts", [{None: 12}, {None: 2}, {3: 12, 5: 2, 6: 7}], ids=str)
def test_an_entry_makes_the_calls_of_its_width(
    counts: dict[int | None, int], device: str, name: str, tmp_path: Path
) -> None:
    target, constants = find_target(name), whole_numbers(12, 24)
    branches = branches_of(constants, counts, target.arch)
    build_branches(branches, target, tmp_path / "model.o")
    x, y = TensorSpec("x", (24,)), TensorSpec("y", (24,))
    size = max(branch.plan.workspace_bytes for branch in branches)
    for width, count in counts.items():
        executable = Executable(tmp_path / "model.o", ENTRY, x, y, size, target, width)
        with open_device(device).load(executable) as loaded:
            found = loaded.run(np.ones((1, 24), np.float32)).outputs[0]
        np.testing.assert_array_equal(found, 1 + constants[:count].sum(axis=0))


def test_a_width_between_others_makes_no_call(tmp_path: Path) -> None:
    target = find_target("cortex-a53")
    branches = branches_of(whole_numbers(12, 24), {3: 12, 5: 2}, target.arch)
    build_branches(branches, target, tmp_path / "model.o")
    x, y = TensorSpec("x", (24,)), TensorSpec("y", (24,))
    for width in (-(2**31), -1, 0, 2, 4, 6, 2**31 - 1):
        executable = Executable(tmp_path / "model.o", ENTRY, x, y, 256, target, width)
        with open_device("emulator").load(executable) as loaded:
            assert set(loaded.run(np.ones((1, 24), np.float32)).profile) == {ENTRY}


def test_forty_calls_take_little_more_of_the_object_than_twenty(tmp_path: Path) -> None:
    target, sizes = find_target("cortex-a53"), []
    for count in (20, 40):
        (branch,) = branches_of(whole_numbers(count, 16), {None: count}, target.arch)
        build_branches([branch], target, tmp_path / "model.o")
        with (tmp_path / "model.o").open("rb") as file:
            sections = [ELFFile(file).get_section_by_name(name) for name in (".text", ".rodata")]
        sizes.append(sum(section["sh_size"] for section in sections))
    assert sizes[1] - sizes[0] <= 20 * 64 + 128  # the constants, and how they are aligned


@pytest.mark.parametrize(("before", "kind"), [(2**17, "short"), (2**18, "int")])
def test_offsets_that_16_bits_do_not_hold_take_32(before: int, kind: str) -> None:
    target, constants = find_target("cortex-a53"), whole_numbers(12, 1)
    (branch,) = branches_of(constants, {None: 12}, target.arch)
    first = np.zeros(before, np.uint8)  # the largest one lies first
    program = replace(branch.program, constants={**branch.program.constants, "first": first})
    assert f"static const unsigned {kind} steps" in driver_source(
        [replace(branch, program=program)], []
    )
