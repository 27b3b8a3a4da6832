import numpy as np
from unicorn.unicorn_const import UC_HOOK_CODE

from bicompile.artifact import Executable
from bicompile.cost.trace import Trace, collect
from bicompile.devices.emulator import Emulator

X = np.arange(16, dtype=np.float32)

CALLS = """
mov x9, x30; mov x3, #9
1: tst x3, #1; b.eq 2f; bl double
2: subs x3, x3, #1; b.ne 1b
str q0, [x1]; mov x30, x9; ret
.type double,@function; double: fadd v0.4s, v0.4s, v0.4s
middle: add x4, x4, #1; add x4, x4, #1
"""


def addresses(trace: Trace) -> list[int]:
    """Of every instruction, in the order of the trace."""
    return [
        trace.blocks[block].address + 4 * index
        for block in trace.order.tolist()
        for index in range(len(trace.blocks[block].instructions))
    ]


def stepped(executable: Executable) -> list[int]:
    """The same from a hook on every instruction."""
    found: list[int] = []
    with Emulator().load(executable) as loaded:
        code = loaded.image.code
        loaded._engine.hook_add(
            UC_HOOK_CODE,
            lambda engine, address, size, user: found.append(address),
            begin=code.address,
            end=code.address + len(code.data) - 1,
        )
        loaded.run(X[None])
    return found


def test_the_trace_is_what_the_processor_executed_instruction_by_instruction(program) -> None:
    executable = program(CALLS)
    assert addresses(collect(executable, X)) == stepped(executable)


def test_a_trace_longer_than_its_first_buffer_is_whole(program) -> None:
    trace = collect(program("mov x3, #0x60000; 1: subs x3, x3, #1; b.ne 1b"), X)
    assert sum(trace.instructions.values()) == 0x60000 * 2 + 2


def test_counts_by_symbol_are_those_of_the_emulator(program) -> None:
    executable = program(CALLS)
    with Emulator().load(executable) as loaded:
        profile = loaded.run(X[None]).profile
    assert collect(executable, X).instructions == profile


def test_a_symbol_inside_a_block_cuts_it(program) -> None:
    trace = collect(program(CALLS), X)
    assert trace.instructions == {"model_run": 46, "double": 5, "middle": 15}


def test_vector_instructions_are_those_of_the_vector_unit(program) -> None:
    assert collect(program(CALLS), X).vector_instructions["double"] == 5
    assert collect(program(CALLS), X).vector_instructions["model_run"] == 0


def test_a_run_after_a_trace_counts_as_before(program) -> None:
    with Emulator().load(program(CALLS)) as loaded:
        before = loaded.run(X[None]).instructions
        loaded.trace(X)
        assert loaded.run(X[None]).instructions == before
