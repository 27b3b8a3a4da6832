from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicompile.schedules.microkernels.instructions import (
    Instruction,
    accumulating,
    add_constant,
    integer,
    load_pair,
    store_lanes,
    store_pair,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import in_one_stage, in_two_stages, schedule

VECTORS = [f"v{n}" for n in range(5)]
REGISTER = st.sampled_from(VECTORS)
STEP = st.one_of(
    st.builds(vector, st.just("eor {}, {}, {}"), REGISTER, REGISTER, REGISTER),
    st.builds(vector, st.just("cnt {}, {}"), REGISTER, REGISTER),
    st.builds(accumulating, st.just("uadalp {}, {}"), REGISTER, REGISTER),
    st.builds(load_pair, st.just("v0"), st.just("v1"), st.just("x1")),
    st.builds(store_pair, REGISTER, REGISTER, st.just("x2")),
)
PROGRAM = st.lists(STEP, min_size=1, max_size=30)
COUNT = integer("subs x9, x9, #1", "x9", "x9")


def meaning(program: Sequence[Instruction]) -> tuple[dict[str, int], list[int]]:
    """Every register after a program, and what it stores, as hashes of how they were made."""
    state: dict[str, int] = {}
    stored = []
    for step in program:
        operands = tuple(state.get(register, hash(register)) for register in step.reads)
        if step.name == "stp":
            stored.append(hash(operands))
        for position, (register, _) in enumerate(step.writes):
            state[register] = hash((step.text, position, operands))
    return state, stored


def in_order(program: Sequence[Instruction]) -> list[Instruction]:
    return [issued.instruction for issued in schedule(program)]


@given(PROGRAM)
def test_a_scheduled_program_computes_the_same(program: list[Instruction]) -> None:
    assert meaning(in_order(program)) == meaning(program)


@given(PROGRAM, st.integers(1, 4))
def test_overlapping_iterations_compute_the_same(program: list[Instruction], turns: int) -> None:
    body = [*program, vector("eor {}, {}, {}", "v0", "v1", "v2")]
    stages = in_two_stages(body, "x9")
    entered = [*stages.first, *stages.loop[stages.late :]]
    whole = [*entered, *stages.loop * (turns - 1), *stages.finish]
    assert whole.count(COUNT) == turns
    assert meaning([step for step in whole if step != COUNT]) == meaning(body * turns)


def test_independent_work_fills_the_wait_for_a_result() -> None:
    first, second, counted, other = (
        vector("eor {}, {}, {}", "v0", "v8", "v9"),
        vector("eor {}, {}, {}", "v1", "v8", "v9"),
        vector("cnt {}, {}", "v2", "v0"),
        vector("cnt {}, {}", "v3", "v1"),
    )
    assert in_order([first, counted, second, other]) == [first, second, counted, other]


def test_a_load_starts_beside_a_vector_instruction() -> None:
    program = [vector("cnt {}, {}", "v2", "v2"), load_pair("v0", "v1", "x1")]
    assert [issued.cycle for issued in schedule(program)] == [0, 0]


def test_a_load_of_two_vectors_holds_its_unit_two_cycles() -> None:
    program = [load_pair("v0", "v1", "x1"), load_pair("v2", "v3", "x2")]
    assert [issued.cycle for issued in schedule(program)] == [0, 2]


def test_the_finish_of_an_iteration_begins_after_the_last_eor() -> None:
    program = [vector("eor {}, {}, {}", "v0", "v1", "v2"), vector("cnt {}, {}", "v0", "v0")]
    stages = in_two_stages(program, "x9")
    assert [step.name for step in stages.start] == ["eor"]
    assert [step.name for step in stages.finish] == ["cnt"]
    assert [step.name for step in stages.loop] == ["subs", "cnt", "eor"]


def test_the_first_iteration_enters_the_loop_behind_the_finish_of_the_one_before() -> None:
    program = [vector("eor {}, {}, {}", "v0", "v1", "v2"), vector("cnt {}, {}", "v0", "v0")]
    stages = in_two_stages(program, "x9")
    assert [line.split()[0] for line in stages.turns("loop")] == [
        "b", "loop:", "subs", "cnt", "loop_first:", "eor", "b.ne"
    ]  # fmt: skip
    assert stages.first == [COUNT]


def test_iterations_that_do_not_overlap_are_one_loop() -> None:
    program = [vector("eor {}, {}, {}", "v0", "v1", "v2"), vector("cnt {}, {}", "v0", "v0")]
    stages = in_one_stage(program, "x9")
    assert [line.split()[0] for line in stages.turns("loop")] == [
        "loop:", "subs", "eor", "cnt", "b.ne"
    ]  # fmt: skip
    assert not stages.first + stages.finish


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (0, []),
        (-16, ["sub x4, x4, #16"]),
        (4096, ["add x4, x4, #1, lsl #12"]),
        (5000, ["add x4, x4, #1, lsl #12", "add x4, x4, #904"]),
    ],
)
def test_a_constant_is_added_by_immediates(value: int, texts: list[str]) -> None:
    assert [step.text for step in add_constant("x4", value)] == texts


def test_a_constant_of_more_than_24_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        add_constant("x4", 1 << 24)


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_storing_lanes_moves_the_pointer_past_them(lanes: int) -> None:
    moved = [int(step.text.rsplit("#", 1)[1]) for step in store_lanes("v7", "x6", lanes)]
    assert sum(moved) == 4 * lanes
