import re
from collections.abc import Callable

import numpy as np
import pytest
from unicorn.unicorn_const import UC_HOOK_CODE

from bicompile.artifact import Executable
from bicompile.devices import DeviceFault, RunResult
from bicompile.devices.emulator import Emulator
from bicompile.devices.memory import Placement
from bicompile.errors import UserError

Program = Callable[..., Executable]

X = np.zeros((1, 16), np.float32)


def run(executable: Executable, x: np.ndarray = X, placement: Placement = "end") -> RunResult:
    with Emulator(placement).load(executable) as loaded:
        return loaded.run(x)


# Guard pages. The message is compared without the address, which is chosen by the emulator.

END = [
    ("ldr w3, [x0, #64]", "read of 4 bytes, right past the end of input (64 bytes)"),
    ("ldr w3, [x0, #72]", "read of 4 bytes, 8 bytes past the end of input (64 bytes)"),
    ("ldur w3, [x0, #62]", "read of 4 bytes, right past the end of input (64 bytes)"),
    ("ldp q0, q1, [x0, #48]", "read of 8 bytes, right past the end of input (64 bytes)"),
    ("str w3, [x1, #64]", "write of 4 bytes, right past the end of output (64 bytes)"),
    ("strb w3, [x1, #64]", "write of 1 bytes, right past the end of output (64 bytes)"),
    ("stur q0, [x1, #56]", "write of 8 bytes, right past the end of output (64 bytes)"),
    ("ldr w3, [x1, #64]", "read of 4 bytes, right past the end of output (64 bytes)"),
    ("strb w3, [x2, #64]", "write of 1 bytes, right past the end of workspace (64 bytes)"),
    ("ldr q3, [x2, #64]", "read of 8 bytes, right past the end of workspace (64 bytes)"),
    ("ldr x3, [sp]", "read of 8 bytes, right past the end of stack (65536 bytes)"),
]
START = [
    ("ldurb w3, [x0, #-1]", "read of 1 bytes, 1 bytes before the start of input"),
    ("ldur q0, [x0, #-8]", "read of 8 bytes, 8 bytes before the start of input"),
    ("sturb w3, [x1, #-1]", "write of 1 bytes, 1 bytes before the start of output"),
    ("ldur w3, [x2, #-4]", "read of 4 bytes, 4 bytes before the start of workspace"),
]
EITHER = [
    ("str w3, [x0]", "write of 4 bytes, at byte 0 of input, which cannot be written"),
    ("str w3, [x0, #60]", "write of 4 bytes, at byte 60 of input, which cannot be written"),
    ("adr x3, model_run; str w3, [x3]", "at byte 0 of the code, which cannot be written"),
    (
        "adrp x3, k; str w3, [x3, :lo12:k]; b 1f; .section .rodata; k: .word 1; .text; 1:",
        "at byte 0 of the constants, which cannot be written",
    ),
    (
        "adrp x3, k; str w3, [x3, :lo12:k]; b 1f; .data; k: .word 1; .text; 1:",
        "at byte 0 of the static variables, which cannot be written",
    ),
    ("mov x3, #8; ldr x3, [x3]", "read of 8 bytes at 0x8, near no buffer"),
    ("sub sp, sp, #16, lsl #12; str x3, [sp, #-16]!", "16 bytes before the start of stack"),
    ("br x1", "where no code is"),
    ("mov x3, #0; br x3", "failed at 0x0: a jump to 0x0, where no code is"),
    ("nop; udf #0", "failed at model_run+0x4 (udf #0): Unhandled CPU exception"),
]
CASES = [
    *[(asm, told, "end") for asm, told in END],
    *[(asm, told, "start") for asm, told in START],
    *[(asm, told, placement) for asm, told in EITHER for placement in ("start", "end")],
]


@pytest.mark.parametrize(("asm", "told", "placement"), CASES)
def test_a_forbidden_access_is_told(
    program: Program, asm: str, told: str, placement: Placement
) -> None:
    with pytest.raises(DeviceFault) as caught:
        run(program(asm=asm), placement=placement)
    text = str(caught.value)
    assert text.startswith("model_run failed at ")
    assert told in text or told in re.sub(r" at 0x[0-9a-f]+, ", ", ", text)


def test_a_fault_names_the_symbol_the_instruction_and_the_address(program: Program) -> None:
    asm = "b 1f; helper: nop; str w3, [x1, #64]; ret; 1: mov x19, x30; bl helper; mov x30, x19"
    with pytest.raises(DeviceFault) as caught:
        run(program(asm=asm))
    assert re.fullmatch(
        r"model_run failed at helper\+0x4 \(str w3, \[x1, #0x40\]\): write of 4 bytes at 0x6\w+, "
        r"right past the end of output \(64 bytes\)",
        str(caught.value),
    )


@pytest.mark.parametrize("placement", ["start", "end"])
@pytest.mark.parametrize("size", [1, 3, 16, 1024, 1500])
def test_every_byte_of_every_buffer_can_be_used(
    program: Program, placement: Placement, size: int
) -> None:
    source = f"""
    void model_run(const float *x, float *y, unsigned char *w) {{
      for (int i = 0; i < {size}; ++i) y[i] = 2 * x[i];
      for (int i = 0; i < {size}; ++i) w[i] = i;
    }}
    """
    x = np.arange(size, dtype=np.float32)[None]
    executable = program(source, inputs=size, outputs=size, workspace=size)
    assert np.array_equal(run(executable, x, placement).outputs, 2 * x)


@pytest.mark.parametrize("placement", ["start", "end"])
def test_buffers_are_aligned_as_promised(program: Program, placement: Placement) -> None:
    source = """
    void model_run(const float *x, float *y, void *w) {
      y[0] = (long)x % 16 + (long)y % 16 + (long)w % 64 + (long)__builtin_frame_address(0) % 16;
    }
    """
    executable = program(source, inputs=15, outputs=1, workspace=60)
    assert run(executable, X[:, :15], placement).outputs == 0


def test_a_write_between_an_odd_buffer_and_its_guard_is_told(program: Program) -> None:
    with pytest.raises(
        DeviceFault,
        match=r"model_run wrote 4 bytes outside its buffers, the first at 0x6\w+, "
        r"right past the end of output \(12 bytes\)",
    ):
        run(program(asm="str wzr, [x1, #12]", outputs=3))


def test_a_program_runs_again_after_a_fault_with_the_same_counts(program: Program) -> None:
    asm = "ldr s0, [x0]; fcmp s0, #0.0; b.eq 1f; str s0, [x1, #64]; 1: str s0, [x1]"
    with Emulator().load(program(asm=asm)) as loaded:
        before = loaded.run(X).instructions
        with pytest.raises(DeviceFault, match="past the end of output"):
            loaded.run(X + 1)
        assert loaded.run(X).instructions == before == (5,)


@pytest.mark.parametrize(
    ("asm", "told"),
    [
        ("mov x19, #1; fmov d8, #1.0", "returned with x19, d8 changed"),
        ("sub sp, sp, #16", "returned with sp changed"),
        ("mov x29, #0", "returned with x29 changed"),
    ],
)
def test_a_kept_register_that_is_changed_is_told(program: Program, asm: str, told: str) -> None:
    with pytest.raises(DeviceFault, match=told):
        run(program(asm=asm))


def test_the_processor_is_that_of_the_target(program: Program) -> None:
    dot = ".arch armv8.2-a+dotprod; sdot v0.4s, v1.16b, v2.16b"
    run(program(asm=dot, target="cortex-a76"))
    with pytest.raises(DeviceFault, match=r"sdot .* an instruction that cortex-a53 does not have"):
        run(program(asm=dot, target="cortex-a53"))


# Counts.


def test_straight_code_counts_every_instruction(program: Program) -> None:
    assert run(program(asm=";".join(["nop"] * 3000))).instructions == (3001,)


def test_a_loop_counts_every_turn_of_every_run(program: Program) -> None:
    asm = "ldr s0, [x0]; fcvtzs w3, s0; 1: nop; subs w3, w3, #1; b.ne 1b"
    x = np.array([[1], [7], [100_000]], np.float32)
    result = run(program(asm=asm, inputs=1), x)
    assert result.instructions == (6, 24, 300_003)


def test_counts_are_those_of_a_hook_on_every_instruction(program: Program) -> None:
    source = """
    __attribute__((noinline)) static float mix(const float *x, int n) {
      float sum = 0;
      for (int i = 0; i < n; ++i) sum += x[i] > 0 ? x[i] : sum * x[i] / 3;
      return sum;
    }
    void model_run(const float *x, float *y, void *w) {
      for (int i = 0; i < 16; ++i) {
        y[i] = mix(x, i);
        if (y[i] > 1) y[i] = mix(x + i, 16 - i);
        switch ((int)(4 * x[i])) {
          case 0: y[i] += 1; break;
          case 1: y[i] *= mix(x, 3); break;
          case 2: y[i] -= mix(x, 5) * x[i]; break;
          case 3: y[i] = x[0]; break;
          default: y[i] = mix(x, 16);
        }
      }
    }
    """
    x = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    executable = program(source)
    counted = run(executable, x)
    single = [0]

    def count(*_: object) -> None:
        single[0] += 1

    with Emulator().load(executable) as loaded:
        loaded._engine.hook_add(UC_HOOK_CODE, count)
        again = loaded.run(x)
    assert counted.instructions is not None
    assert len(set(counted.instructions)) > 10
    assert sum(counted.instructions) == single[0]
    assert counted.instructions == again.instructions


def test_the_profile_splits_the_count_by_symbol(program: Program) -> None:
    asm = """
    mov x9, x30
    bl twice
    bl local
    mov x30, x9
    b through
    local: nop; ret
    unused: nop
    .globl twice; .type twice,@function
    twice: nop; nop; ret
    through: nop; nop
    """
    x = np.zeros((2, 16), np.float32)
    result = run(program(asm=asm), x)
    assert result.profile == {"model_run": 10, "local": 4, "twice": 6, "through": 6}
    assert result.instructions == (13, 13)


def test_code_that_falls_through_a_label_is_counted_on_both_sides(program: Program) -> None:
    assert run(program(asm="nop; nop; second: nop")).profile == {"model_run": 2, "second": 2}


@pytest.mark.parametrize(("asm", "depth"), [("nop", 0), ("stp x0, x1, [sp, #-32]; nop", 32)])
def test_the_depth_of_the_stack_is_measured(program: Program, asm: str, depth: int) -> None:
    assert run(program(asm=asm)).stack_bytes == depth


def test_a_missing_entry_is_told(program: Program) -> None:
    executable = program("void other(void) {}")
    with pytest.raises(UserError, match=r"\.o defines no function model_run"):
        Emulator().load(executable)
