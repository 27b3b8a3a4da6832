"""Constants in fewer bytes: what kernels read is what it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tvm import te

from bicompile.artifact import Executable, TensorSpec
from bicompile.build import build_object, laid_out
from bicompile.compact import compacted
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.memory import plan_memory
from bicompile.program import Buffer, Call, Program
from bicompile.scheduling import schedule_program
from bicompile.smaller import in_steps
from bicompile.targets import find_target

RANDOM = np.random.default_rng(3)
HALVES = RANDOM.standard_normal(300).astype(np.float16)
HALVES[:8] = [0, -0.0, np.inf, -np.inf, 65504, 6e-8, -6e-8, 1e-5]
ROWS = RANDOM.standard_normal((3, 40)).astype(np.float32)
ROWS[0, 0], ROWS[1] = 0.0, ROWS[0]
ROWS[1, 0] = -0.0


def in_equal_steps(n: int, first: float, step: float, steps: int) -> NDArray[np.float32]:
    """Of so many steps; the first and the last are there, and no number is rounded."""
    levels = np.concatenate([[0, steps - 1], RANDOM.integers(0, steps, n - 2)])
    exact = first + levels * step
    assert np.array_equal(exact.astype(np.float32), exact)
    return exact.astype(np.float32)


CONSTANTS = {
    "halves": HALVES.astype(np.float32),
    "more halves": HALVES[RANDOM.integers(0, 300, 320)].astype(np.float32),
    "steps": in_steps(RANDOM.uniform(-0.3, 0.7, 300).astype(np.float32)),
    "more steps": in_steps(RANDOM.uniform(-0.3, 0.7, 320).astype(np.float32)),
    "256 steps": in_equal_steps(320, -37 * 0.0123291015625, 0.0123291015625, 256),
    "256 steps beside 0": in_equal_steps(320, 0.0009765625, 0.625, 256),
    "257 steps beside 0": in_equal_steps(320, 0.0009765625, 0.625, 257),
    "one number": np.full(300, -0.1, np.float32),
    "far": in_steps(RANDOM.uniform(0.7, 1.5, 300).astype(np.float32)),
    "bits": RANDOM.choice(np.array([0x3F80, 0xBF80], np.uint16), (20, 4, 8)),
    "rows": ROWS[RANDOM.integers(0, 3, 64)],
    "counts": np.array([[400] * 32, [384] * 32], np.int32)[RANDOM.integers(0, 2, 50)],
    "floats": RANDOM.standard_normal(300).astype(np.float32),
    "few": np.ones(8, np.float32),
}

KEPT = ("floats", "few")


def copy(array: NDArray[np.generic]) -> Program:
    """A program that copies a constant to its output."""
    buffer = Buffer(array.shape, str(array.dtype))
    source = te.placeholder(array.shape, str(array.dtype), "source")
    kernel = te.create_prim_func([source, te.compute(array.shape, lambda *at: source(*at), "to")])
    buffers = {"input": Buffer((4,), "float32"), "output": buffer}
    calls = (Call("copied", ("constant",), ("output",), ""),)
    kernel = kernel.without_attr("global_symbol")
    return Program({"copied": kernel}, buffers, {"constant": array}, calls, "input", "output")


def stored(program: Program) -> int:
    return sum(array.nbytes for array in laid_out([program])[0].constants.values())


@pytest.mark.parametrize("target", ["cortex-a53", "host"])
@pytest.mark.parametrize("name", [name for name in CONSTANTS if name not in KEPT])
def test_a_compacted_constant_is_read_bit_for_bit(name: str, target: str, tmp_path: Path) -> None:
    array, processor = CONSTANTS[name], find_target(target)
    program = compacted(schedule_program(copy(array), processor.arch), processor.arch)
    assert stored(program) <= array.nbytes / 1.9 + 8
    plan = plan_memory(program)
    build_object(program, plan, processor, tmp_path / "model.o")
    given, result = TensorSpec("unused", (4,)), TensorSpec("copy", (array.nbytes // 4,))
    executable = Executable(
        tmp_path / "model.o", ENTRY, given, result, plan.workspace_bytes, processor
    )
    with open_device("host" if target == "host" else "emulator").load(executable) as loaded:
        found = loaded.run(np.zeros((1, 4), np.float32)).outputs[0]
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", KEPT)
def test_what_saves_nothing_stays_as_it_is(name: str) -> None:
    program = schedule_program(copy(CONSTANTS[name]), "aarch64")
    assert compacted(program, "aarch64") == program


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("256 steps", "steps_uint8_320"),
        ("256 steps beside 0", "line_uint8_320"),
        ("257 steps beside 0", "line_uint16_320"),
        ("more steps", "steps_uint16_320"),
        ("one number", "steps_uint8_300"),
    ],
)
def test_256_steps_take_a_byte_a_number(name: str, kernel: str) -> None:
    program = compacted(schedule_program(copy(CONSTANTS[name]), "aarch64"), "aarch64")
    spread, _ = program.calls
    assert spread.kernel == kernel
    assert program.constants[spread.inputs[0]].dtype == kernel.split("_")[1]


@given(first=st.integers(-(2**24), 2**24), step=st.integers(1, 2**19))
@settings(max_examples=100, deadline=None)
def test_steps_give_the_numbers_whether_or_not_a_product_is_rounded(first: int, step: int) -> None:
    levels = np.random.default_rng(step).integers(0, 256, 64)
    array = ((first + levels * step) / 1024).astype(np.float32)
    program = compacted(schedule_program(copy(array), "aarch64"), "aarch64")
    numbers, *line = (program.constants[name] for name in program.calls[0].inputs)
    if program.calls[0].kernel.startswith("steps"):
        made = [(line[0][0] + numbers.astype(np.float32)) * line[0][1]]
    elif program.calls[0].kernel.startswith("line"):
        product = numbers.astype(np.float64) * line[0][1]
        made = [
            (line[0][0] + product.astype(np.float32)).astype(np.float32),
            (line[0][0] + product).astype(np.float32),
        ]
    else:
        return
    for found in made:
        assert found.tobytes() == array.tobytes()


def test_a_buffer_that_holds_a_constant_is_told_with_it() -> None:
    program = compacted(schedule_program(copy(CONSTANTS["halves"]), "aarch64"), "aarch64")
    spread, call = program.calls
    assert program.unpacked == {call.inputs[0]: "constant"}
    assert spread.outputs == call.inputs


def test_equal_constants_of_a_call_are_spread_once() -> None:
    program = copy(CONSTANTS["halves"])
    (call,) = program.calls
    source, same = (te.placeholder((300,), "float32", name) for name in ("source", "same"))
    total = te.compute((300,), lambda i: source[i] + same[i], "to")
    kernel = te.create_prim_func([source, same, total]).without_attr("global_symbol")
    twice = replace(
        program,
        kernels={call.kernel: kernel},
        calls=(replace(call, inputs=("constant", "constant")),),
    )
    spread, added = compacted(schedule_program(twice, "aarch64"), "aarch64").calls
    assert added.inputs == 2 * spread.outputs
