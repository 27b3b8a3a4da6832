from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicompile.memory import ALIGNMENT, align, plan_memory
from bicompile.program import Buffer, Call, Program


def program_of(sizes: list[int], calls: list[tuple[list[str], str]]) -> Program:
    buffers = {f"b{i}": Buffer((size,), "uint8") for i, size in enumerate(sizes)}
    ends = {"input": Buffer((4,), "float32"), "output": Buffer((4,), "float32")}
    read = tuple(Call("kernel", tuple(inputs), (output,), "") for inputs, output in calls)
    return Program({}, {**ends, **buffers}, {}, read, "input", "output")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Each call writes a new buffer from some that were written before; the last, the output."""
    sizes = draw(st.lists(st.integers(1, 1000), max_size=12))
    written = ["input"]
    calls = []
    for name in [*(f"b{i}" for i in range(len(sizes))), "output"]:
        calls.append((draw(st.lists(st.sampled_from(written), min_size=1, max_size=3)), name))
        written.append(name)
    return program_of(sizes, calls)


def lifetime(program: Program, name: str) -> tuple[int, int]:
    used = [i for i, call in enumerate(program.calls) if name in (*call.inputs, *call.outputs)]
    return used[0], used[-1]


def overlap(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two closed intervals meet."""
    return first[0] <= second[1] and second[0] <= first[1]


def place(program: Program, offsets: dict[str, int], name: str) -> tuple[int, int]:
    return offsets[name], offsets[name] + program.buffers[name].nbytes - 1


@given(programs())
def test_buffers_that_live_at_once_never_overlap(program: Program) -> None:
    offsets = plan_memory(program).offsets
    for one, other in combinations(offsets, 2):
        if overlap(lifetime(program, one), lifetime(program, other)):
            assert not overlap(place(program, offsets, one), place(program, offsets, other))


@given(programs())
def test_without_reuse_no_buffers_overlap(program: Program) -> None:
    offsets = plan_memory(program, reuse=False).offsets
    for one, other in combinations(offsets, 2):
        assert not overlap(place(program, offsets, one), place(program, offsets, other))


@given(programs(), st.booleans())
def test_every_buffer_is_aligned_and_inside_the_workspace(program: Program, reuse: bool) -> None:
    plan = plan_memory(program, reuse=reuse)
    assert set(plan.offsets) == set(program.buffers) - {"input", "output"}
    assert all(offset % ALIGNMENT == 0 for offset in plan.offsets.values())
    ends = [place(program, plan.offsets, name)[1] for name in plan.offsets]
    assert plan.workspace_bytes % ALIGNMENT == 0
    assert max(ends, default=-1) < plan.workspace_bytes
    assert plan.workspace_bytes < max(ends, default=0) + 1 + ALIGNMENT


@given(programs())
def test_the_order_of_the_tables_does_not_change_the_plan(program: Program) -> None:
    turned = dict(reversed(program.buffers.items()))
    other = Program({}, turned, {}, program.calls, "input", "output")
    assert plan_memory(other) == plan_memory(program)


@given(programs())
def test_reuse_never_needs_more_than_no_reuse(program: Program) -> None:
    reused, apart = plan_memory(program), plan_memory(program, reuse=False)
    assert reused.workspace_bytes <= apart.workspace_bytes


def test_a_chain_needs_two_buffers_only() -> None:
    names = [f"b{i}" for i in range(6)]
    calls = [([a], b) for a, b in zip(["input", *names], [*names, "output"], strict=True)]
    plan = plan_memory(program_of([100] * 6, calls))
    assert plan.workspace_bytes == 2 * 128


def test_a_program_without_intermediate_values_needs_no_workspace() -> None:
    assert plan_memory(program_of([], [(["input"], "output")])).workspace_bytes == 0


@pytest.mark.parametrize("size", [1, 64, 65])
def test_a_result_that_nobody_reads_still_has_a_place(size: int) -> None:
    plan = plan_memory(program_of([size], [(["input"], "b0"), (["input"], "output")]))
    assert plan.offsets == {"b0": 0}
    assert plan.workspace_bytes >= size


@given(programs())
def test_no_plan_is_smaller_than_what_lives_at_one_call(program: Program) -> None:
    plan = plan_memory(program)
    lives = [
        sum(
            align(program.buffers[name].nbytes)
            for name in plan.offsets
            if overlap(lifetime(program, name), (call, call))
        )
        for call in range(len(program.calls))
    ]
    assert plan.live_bytes == max(lives)
    assert plan.live_bytes <= plan.workspace_bytes
