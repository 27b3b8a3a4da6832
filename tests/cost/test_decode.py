import pytest

from bicompile.cost.decode import FLAGS, decode
from bicompile.errors import UserError

V = 32  # number of v0
SP = 31

# instruction, registers it waits for, registers it writes with their latencies
EFFECTS = [
    ("add x0, x1, x2, lsl #2", {1, 2}, {0: 1}),
    ("adds w0, w1, wzr", {1}, {0: 1, FLAGS: 1}),
    ("adc x0, x1, x2", {1, 2, FLAGS}, {0: 1}),
    ("cmp x3, #3", {3}, {FLAGS: 1}),
    ("cmn x3, x4", {3, 4}, {FLAGS: 1}),
    ("tst w3, w4", {3, 4}, {FLAGS: 1}),
    ("ccmp x3, x4, #0, eq", {3, 4, FLAGS}, {FLAGS: 1}),
    ("ccmn x3, x4, #0, eq", {3, 4, FLAGS}, {FLAGS: 1}),
    ("csel x0, x1, x2, eq", {1, 2, FLAGS}, {0: 1}),
    ("cset x0, ne", {FLAGS}, {0: 1}),
    ("movk x0, #5, lsl #16", {0}, {0: 1}),
    ("bfi x0, x1, #2, #3", {0, 1}, {0: 1}),
    ("mov x0, sp", {SP}, {0: 1}),
    ("madd x0, x1, x2, x3", {1, 2, 3}, {0: 3}),
    ("umulh x0, x1, x2", {1, 2}, {0: 3}),
    ("b.ne .", {FLAGS}, {}),
    ("cbz x3, .", {3}, {}),
    ("tbnz w3, #1, .", {3}, {}),
    ("bl .", set(), {30: 1}),
    ("ret", {30}, {}),
    ("br x3", {3}, {}),
    ("nop", set(), {}),
    ("eor v0.16b, v1.16b, v2.16b", {V + 1, V + 2}, {V: 4}),
    ("cnt v0.16b, v1.16b", {V + 1}, {V: 4}),
    ("uaddlp v0.8h, v1.16b", {V + 1}, {V: 4}),
    ("uadalp v0.8h, v1.16b", {V, V + 1}, {V: 4}),
    ("uabal v0.8h, v1.8b, v2.8b", {V, V + 1, V + 2}, {V: 4}),
    ("mla v0.8h, v1.8h, v2.8h", {V, V + 1, V + 2}, {V: 4}),
    ("umlal2 v0.4s, v1.8h, v2.8h", {V, V + 1, V + 2}, {V: 4}),
    ("umull v0.4s, v1.4h, v2.4h", {V + 1, V + 2}, {V: 4}),
    ("usra v0.4s, v1.4s, #3", {V, V + 1}, {V: 4}),
    ("sri v0.4s, v1.4s, #3", {V, V + 1}, {V: 4}),
    ("bif v0.16b, v1.16b, v2.16b", {V, V + 1, V + 2}, {V: 4}),
    ("xtn v0.8b, v1.8h", {V + 1}, {V: 4}),
    ("xtn2 v0.16b, v1.8h", {V, V + 1}, {V: 4}),
    ("sqxtun2 v0.16b, v1.8h", {V, V + 1}, {V: 4}),
    ("uaddl2 v0.8h, v1.16b, v2.16b", {V + 1, V + 2}, {V: 4}),
    ("tbl v0.16b, {v1.16b, v2.16b}, v3.16b", {V + 1, V + 2, V + 3}, {V: 4}),
    ("tbx v0.16b, {v1.16b}, v3.16b", {V, V + 1, V + 3}, {V: 4}),
    ("orr v0.4s, #1", {V}, {V: 4}),
    ("movi v0.2d, #0", set(), {V: 4}),
    ("mov v0.16b, v1.16b", {V + 1}, {V: 4}),
    ("mov v0.s[1], w3", {V, 3}, {V: 4}),
    ("mov v0.s[1], v2.s[3]", {V, V + 2}, {V: 4}),
    ("dup v0.16b, w1", {1}, {V: 4}),
    ("umov w0, v1.b[2]", {V + 1}, {0: 4}),
    ("fmov x0, d1", {V + 1}, {0: 4}),
    ("fadd v0.4s, v1.4s, v2.4s", {V + 1, V + 2}, {V: 5}),
    ("fmul v0.4s, v1.4s, v2.s[1]", {V + 1, V + 2}, {V: 5}),
    ("fmla v0.4s, v1.4s, v2.s[1]", {V, V + 1, V + 2}, {V: 5}),
    ("fmadd s0, s1, s2, s3", {V + 1, V + 2, V + 3}, {V: 5}),
    ("scvtf s0, w1", {1}, {V: 5}),
    ("fcmp s1, #0.0", {V + 1}, {FLAGS: 5}),
    ("fccmp s1, s2, #0, eq", {V + 1, V + 2, FLAGS}, {FLAGS: 5}),
    ("ldr w0, [x1]", {1}, {0: 3}),
    ("ldrb w0, [x1], #1", {1}, {0: 3, 1: 1}),
    ("ldr q0, [x1, x2, lsl #4]", {1, 2}, {V: 4}),
    ("ldr x0, .", set(), {0: 3}),
    ("ldp q0, q1, [x1, #32]!", {1}, {V: 4, V + 1: 4, 1: 1}),
    ("ld1 {v4.16b}, [x1], x2", {1, 2}, {V + 4: 4, 1: 1}),
    ("ld1 {v4.16b-v7.16b}, [x1]", {1}, {V + 4: 4, V + 5: 4, V + 6: 4, V + 7: 4}),
    ("ld1 {v4.b}[3], [x1]", {1, V + 4}, {V + 4: 4}),
    ("ld1r {v4.16b}, [x1], #1", {1}, {V + 4: 4, 1: 1}),
    ("str q0, [x1, #16]", {V, 1}, {}),
    ("stp x29, x30, [sp, #-16]!", {29, 30, SP}, {SP: 1}),
    ("st1 {v0.4s}, [x1], x2", {V, 1, 2}, {1: 1}),
    ("prfm pldl1keep, [x0]", {0}, {}),
]

HOLDS = [
    ("ldr q0, [x1]", 1),
    ("ldp x0, x2, [x1]", 1),
    ("ldp d0, d1, [x1]", 1),
    ("ldp q0, q1, [x1]", 2),
    ("stp q0, q1, [x1]", 2),
    ("ld1 {v0.16b}, [x1]", 1),
    ("ld1 {v0.16b-v3.16b}, [x1]", 4),
    ("st1 {v0.16b-v2.16b}, [x1]", 3),
    ("ld1r {v0.16b}, [x1]", 1),
    ("ld1 {v0.s}[1], [x1]", 1),
    ("ld2 {v0.16b, v1.16b}, [x1]", 4),
    ("ld3 {v0.16b-v2.16b}, [x1]", 6),
    ("ld4 {v0.16b-v3.16b}, [x1]", 8),
]

UNITS = [
    ("cnt v0.16b, v1.16b", "vector"),
    ("fmov w0, s1", "vector"),
    ("ldr q0, [x0]", "memory"),
    ("prfm pldl1keep, [x0]", "memory"),
    ("b.eq .", "branch"),
    ("ret", "branch"),
    ("adrp x0, .", "integer"),
    ("mul x0, x1, x2", "integer"),
]


def test_an_instruction_waits_for_what_it_reads_and_delays_what_it_writes(assemble) -> None:
    decoded = assemble(";".join(text for text, _, _ in EFFECTS))
    for instruction, (text, reads, writes) in zip(decoded, EFFECTS, strict=True):
        assert (set(instruction.reads), dict(instruction.writes)) == (reads, writes), text


def test_several_registers_hold_the_load_store_unit_longer(assemble) -> None:
    decoded = assemble(";".join(text for text, _ in HOLDS))
    assert [(text, i.hold) for (text, _), i in zip(HOLDS, decoded, strict=True)] == HOLDS


def test_every_instruction_has_its_unit(assemble) -> None:
    decoded = assemble(";".join(text for text, _ in UNITS))
    assert [(text, i.unit) for (text, _), i in zip(UNITS, decoded, strict=True)] == UNITS


JUMPS = [
    ("b .+16", 16),
    ("b.ne .-8", -8),
    ("cbz x3, .-4", -4),
    ("tbnz w3, #1, .+12", 12),
    ("bl .+8", 8),
    ("br x3", None),
    ("ret", None),
    ("add x0, x1, #4", None),
]

LOADED = [
    ("ldr q0, [x1]", 1),
    ("ldp q0, q1, [x1], #32", 2),
    ("ld1 {v0.16b-v3.16b}, [x1]", 4),
    ("ldp x0, x2, [x1]", 0),
    ("stp q0, q1, [x1]", 0),
    ("cnt v0.16b, v1.16b", 0),
]


def test_a_direct_branch_has_its_distance(assemble) -> None:
    decoded = assemble(";".join(text for text, _ in JUMPS))
    assert [(text, i.jump) for (text, _), i in zip(JUMPS, decoded, strict=True)] == JUMPS


def test_loaded_vectors_are_counted(assemble) -> None:
    decoded = assemble(";".join(text for text, _ in LOADED))
    assert [
        (text, i.vectors_loaded) for (text, _), i in zip(LOADED, decoded, strict=True)
    ] == LOADED


def test_vector_registers_are_named_whatever_their_size(assemble) -> None:
    (instruction,) = assemble("fmadd s0, s31, s7, s8")
    assert instruction.vector_registers == {0, 31, 7, 8}


def test_a_word_that_is_no_instruction_is_named_by_its_address() -> None:
    nop = bytes.fromhex("1f2003d5")
    with pytest.raises(UserError, match="the word at 0x1004 of the code is no instruction"):
        decode(nop + b"\xff" * 4, 0x1000)
