import numpy as np
import pytest

from bicompile.cost import inorder
from bicompile.cost.trace import collect

# Lines and the cycle in which each of them issues.
ISSUE = {
    "two integer instructions a cycle": ("mov x0, x1; mov x2, x3; mov x4, x5", [0, 0, 1]),
    "one vector instruction a cycle": ("cnt v0.16b, v1.16b; cnt v2.16b, v3.16b", [0, 1]),
    "a load beside a vector instruction": ("cnt v0.16b, v1.16b; ldr q2, [x0]", [0, 0]),
    "one load or store a cycle": ("ldr q0, [x0]; str q1, [x1]", [0, 1]),
    "a branch beside an integer instruction": ("mov x0, x1; b .; b .", [0, 0, 1]),
    "no more than two of anything": ("cnt v0.16b, v1.16b; ldr q2, [x0]; mov x1, x2", [0, 0, 1]),
    "in order even where a unit is free": (
        "cnt v0.16b, v1.16b; cnt v2.16b, v3.16b; ldr q4, [x0]; ldr q5, [x0]",
        [0, 1, 1, 2],
    ),
    "an integer result after one cycle": ("add x0, x1, x2; add x3, x0, x0", [0, 1]),
    "a product after three": ("mul x0, x1, x2; add x3, x0, x0", [0, 3]),
    "a vector result after four": ("cnt v0.16b, v1.16b; cnt v0.16b, v0.16b", [0, 4]),
    "a float result after five": ("fadd s0, s1, s2; fadd s3, s0, s1", [0, 5]),
    "a loaded vector after four": ("ldr q0, [x0]; cnt v1.16b, v0.16b", [0, 4]),
    "a loaded integer after three": ("ldr x0, [x1]; add x0, x0, x0", [0, 3]),
    "a written-back address after one": ("ldr q0, [x1], #16; ldr q2, [x1]", [0, 1]),
    "flags after one": ("cmp x0, x1; b.eq .", [0, 1]),
    "a store waits for its data": ("cnt v0.16b, v1.16b; str q0, [x1]", [0, 4]),
    "an accumulator waits for itself": ("uadalp v0.8h, v1.16b; uadalp v0.8h, v2.16b", [0, 4]),
    "a pair of vectors takes the unit twice": (
        "ldp q0, q1, [x0]; cnt v4.16b, v5.16b; ldr q2, [x1]",
        [0, 0, 2],
    ),
    "LD4 takes the unit eight times": ("ld4 {v0.16b-v3.16b}, [x0]; ldr q4, [x1]", [0, 8]),
}


@pytest.mark.parametrize(("lines", "issue"), ISSUE.values(), ids=ISSUE.keys())
def test_in_order_issue(assemble, lines: str, issue: list[int]) -> None:
    state, now, found = inorder.State(), 0, []
    for instruction in assemble(lines):
        passed, state = inorder.step(state, (instruction,))
        now += passed
        found.append(now)
    assert found == issue


LOOPS = """
mov x3, #200; movi v0.16b, #0
1: mov x4, #5
2: ldr q1, [x0]; uadalp v0.8h, v1.16b; subs x4, x4, #1; b.ne 2b
ldp q2, q3, [x0]; fmla v4.4s, v2.4s, v3.4s
tbz x3, #0, 3f; mul x5, x3, x3; add x5, x5, x3; uadalp v0.8h, v2.16b
3: subs x3, x3, #1; b.ne 1b
str q0, [x1]
"""


def test_remembered_blocks_give_the_cycles_of_the_whole_trace_at_once(program) -> None:
    trace = collect(program(LOOPS), np.zeros(16, np.float32))
    whole = tuple(i for block in trace.order.tolist() for i in trace.blocks[block].instructions)
    passed, _ = inorder.step(inorder.State(issued=("integer", "integer")), whole)
    assert sum(inorder.cycles(trace).values()) == passed
    assert len(whole) > 4000


def test_cycles_are_those_of_the_symbol_that_runs(program) -> None:
    lines = """
    mov x9, x30; bl slow; mov x30, x9; ret
    .type slow,@function; slow: add x4, x4, x4; add x4, x4, x4; add x4, x4, x4; add x4, x4, x4
    """
    cycles = inorder.cycles(collect(program(lines), np.zeros(16, np.float32)))
    assert cycles == {"model_run": 3, "slow": 4}
