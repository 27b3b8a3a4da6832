"""AArch64 instructions as the list scheduler sees them: text, registers, unit, latency.

Registers are names: `v3` is a vector register, `x4` an integer register. Latencies are those of an
in-order core (Cortex-A53 and A55 class), as far as known: they order instructions, nothing
else depends on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["vector", "memory", "integer"]

VECTOR_LATENCY = 4
FLOAT_LATENCY = 5
LOAD_LATENCY = 4
INTEGER_LATENCY = 1


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        text: assembly.
        reads: registers whose values it needs.
        writes: registers it writes, each with the cycles until the value is there.
        unit: what executes it.
        cycles: how long it holds the unit.
    """

    text: str
    reads: tuple[str, ...]
    writes: tuple[tuple[str, int], ...]
    unit: Unit
    cycles: int = 1

    @property
    def name(self) -> str:
        """The mnemonic."""
        return self.text.split()[0]


def vector(template: str, destination: str, *sources: str) -> Instruction:
    """An ASIMD integer instruction; the template's {} stand for the registers in order."""
    return Instruction(
        template.format(destination, *sources),
        sources,
        ((destination, VECTOR_LATENCY),),
        "vector",
    )


def accumulating(
    template: str, destination: str, *sources: str, latency: int = VECTOR_LATENCY
) -> Instruction:
    """An ASIMD instruction that adds to its destination, or changes a part of it."""
    return Instruction(
        template.format(destination, *sources),
        (destination, *sources),
        ((destination, latency),),
        "vector",
    )


def floating(template: str, destination: str, *sources: str) -> Instruction:
    """An ASIMD floating-point instruction."""
    return Instruction(
        template.format(destination, *sources), sources, ((destination, FLOAT_LATENCY),), "vector"
    )


def load_pair(first: str, second: str, pointer: str) -> Instruction:
    """Two vectors of 16 bytes; the pointer moves past them."""
    return Instruction(
        f"ldp {_q(first)}, {_q(second)}, [{pointer}], #32",
        (pointer,),
        ((first, LOAD_LATENCY), (second, LOAD_LATENCY), (pointer, INTEGER_LATENCY)),
        "memory",
        2,
    )


def load_pair_at(first: str, second: str, pointer: str, offset: int, after: int = 0) -> Instruction:
    """Two vectors that lie `offset` bytes on; at offset 0 the pointer may move by `after`."""
    place = f"[{pointer}], #{after}" if after else f"[{pointer}, #{offset}]"
    moved = ((pointer, INTEGER_LATENCY),) if after else ()
    return Instruction(
        f"ldp {_q(first)}, {_q(second)}, {place}",
        (pointer,),
        ((first, LOAD_LATENCY), (second, LOAD_LATENCY), *moved),
        "memory",
        2,
    )


def load_four(registers: Sequence[str], pointer: str, by: str) -> Instruction:
    """Four vectors that lie side by side, into neighbours; the pointer moves by a register."""
    names = ", ".join(f"{register}.4s" for register in registers)
    writes = tuple((register, LOAD_LATENCY) for register in registers)
    moved = (pointer, INTEGER_LATENCY)
    text = f"ld1 {{{names}}}, [{pointer}], {by}"
    return Instruction(text, (pointer, by), (*writes, moved), "memory", 4)


def load(destination: str, pointer: str) -> Instruction:
    """One vector of 16 bytes; the pointer moves past it."""
    return _load(f"ldr {_q(destination)}, [{pointer}], #16", destination, pointer)


def load_at(destination: str, pointer: str, offset: int) -> Instruction:
    """One vector that lies `offset` bytes on, a multiple of 16 below 2^16."""
    text = f"ldr {_q(destination)}, [{pointer}, #{offset}]"
    return Instruction(text, (pointer,), ((destination, LOAD_LATENCY),), "memory")


def load_half(destination: str, pointer: str) -> Instruction:
    """Eight bytes; the pointer moves past them."""
    return _load(f"ldr d{destination[1:]}, [{pointer}], #8", destination, pointer)


def load_single(destination: str, pointer: str) -> Instruction:
    """Four bytes; the pointer moves past them."""
    return _load(f"ldr s{destination[1:]}, [{pointer}], #4", destination, pointer)


def load_repeated(destination: str, pointer: str, size: int, by: str = "") -> Instruction:
    """`size` bytes (1, 2, 4, 8), repeated to fill a vector; see load_by for `by`."""
    lanes = {1: "16b", 2: "8h", 4: "4s", 8: "2d"}[size]
    text = f"ld1r {{{destination}.{lanes}}}, [{pointer}], {by or f'#{size}'}"
    return _load(text, destination, pointer, *([by] if by else []))


def load_by(destination: str, pointer: str, by: str) -> Instruction:
    """One vector; the pointer moves by what is in another register."""
    return _load(f"ld1 {{{destination}.16b}}, [{pointer}], {by}", destination, pointer, by)


def load_first_lane(destination: str, pointer: str, size: int) -> Instruction:
    """`size` bytes (1, 2, 4, 8), the rest of the vector clear; the pointer moves past them."""
    letter = {1: "b", 2: "h", 4: "s", 8: "d"}[size]
    return _load(f"ldr {letter}{destination[1:]}, [{pointer}], #{size}", destination, pointer)


def load_lane(destination: str, pointer: str, size: int, lane: int, by: str = "") -> Instruction:
    """One lane of `size` bytes (1, 2, 4, 8), the others stay; see load_by for `by`."""
    letter = {1: "b", 2: "h", 4: "s", 8: "d"}[size]
    text = f"ld1 {{{destination}.{letter}}}[{lane}], [{pointer}], {by or f'#{size}'}"
    return _load(text, destination, pointer, destination, *([by] if by else []))


def repeat_lane(register: str, size: int) -> Instruction:
    """Fill a vector with its first `size` bytes (2, 4, 8)."""
    letter = {2: "h", 4: "s", 8: "d"}[size]
    return vector(f"dup {{}}.{16 // size}{letter}, {{}}.{letter}[0]", register, register)


def load_repeated_at(destination: str, pointer: str) -> Instruction:
    """Four bytes, repeated to fill a vector."""
    text = f"ld1r {{{destination}.4s}}, [{pointer}]"
    return Instruction(text, (pointer,), ((destination, LOAD_LATENCY),), "memory")


def _load(text: str, destination: str, pointer: str, *reads: str) -> Instruction:
    writes = ((destination, LOAD_LATENCY), (pointer, INTEGER_LATENCY))
    return Instruction(text, (pointer, *reads), writes, "memory")


def load_lanes(destination: str, pointer: str, lanes: int) -> list[Instruction]:
    """1 to 4 lanes of 32 bits into the first of a vector; the pointer moves past them."""
    if lanes == 4:
        return [load(destination, pointer)]
    if lanes == 1:
        return [load_single(destination, pointer)]
    pair = load_half(destination, pointer)
    if lanes == 2:
        return [pair]
    text = f"ld1 {{{destination}.s}}[2], [{pointer}], #4"
    writes = ((destination, LOAD_LATENCY), (pointer, INTEGER_LATENCY))
    return [pair, Instruction(text, (destination, pointer), writes, "memory")]


def store_pair(first: str, second: str, pointer: str) -> Instruction:
    """Two vectors; the pointer moves past them."""
    text = f"stp {_q(first)}, {_q(second)}, [{pointer}], #32"
    return Instruction(text, (first, second, pointer), ((pointer, INTEGER_LATENCY),), "memory", 2)


def store_pair_at(first: str, second: str, pointer: str, offset: int) -> Instruction:
    """Two vectors, `offset` bytes on, a multiple of 16 below 2^10."""
    text = f"stp {_q(first)}, {_q(second)}, [{pointer}, #{offset}]"
    return Instruction(text, (first, second, pointer), (), "memory", 2)


def store(source: str, pointer: str) -> Instruction:
    """One vector; the pointer moves past it."""
    text = f"str {_q(source)}, [{pointer}], #16"
    return Instruction(text, (source, pointer), ((pointer, INTEGER_LATENCY),), "memory")


def store_at(source: str, pointer: str, offset: int) -> Instruction:
    """One vector, `offset` bytes on, a multiple of 16 below 2^16."""
    return Instruction(f"str {_q(source)}, [{pointer}, #{offset}]", (source, pointer), (), "memory")


def store_lanes(source: str, pointer: str, lanes: int) -> list[Instruction]:
    """The first 1 to 4 lanes of 32 bits; the pointer moves past them."""
    number = source[1:]

    def store(text: str) -> Instruction:
        return Instruction(text, (source, pointer), ((pointer, INTEGER_LATENCY),), "memory")

    if lanes == 4:
        return [store(f"str q{number}, [{pointer}], #16")]
    if lanes == 1:
        return [store(f"str s{number}, [{pointer}], #4")]
    pair = store(f"str d{number}, [{pointer}], #8")
    if lanes == 2:
        return [pair]
    return [pair, store(f"st1 {{{source}.s}}[2], [{pointer}], #4")]


def store_lane(source: str, lane: int, pointer: str, by: str) -> Instruction:
    """One lane of 32 bits; the pointer moves by what is in another register."""
    text = f"st1 {{{source}.s}}[{lane}], [{pointer}], {by}"
    return Instruction(text, (source, pointer, by), ((pointer, INTEGER_LATENCY),), "memory")


def integer(text: str, destination: str, *sources: str) -> Instruction:
    """An instruction on integer registers."""
    return Instruction(text, sources, ((destination, INTEGER_LATENCY),), "integer")


def add_constant(register: str, value: int) -> list[Instruction]:
    """register += value, |value| < 2^24: at most two instructions."""
    if abs(value) >= 1 << 24:
        raise ValueError(f"{value} bytes are too many for an add of two immediates")
    verb = "sub" if value < 0 else "add"
    high, low = divmod(abs(value), 1 << 12)
    parts = [f"#{high}, lsl #12"] if high else []
    parts += [f"#{low}"] if low else []
    return [
        Instruction(
            f"{verb} {register}, {register}, {part}",
            (register,),
            ((register, INTEGER_LATENCY),),
            "integer",
        )
        for part in parts
    ]


def offset(register: str, base: str, value: int) -> list[str]:
    """register = base + value, as text; 0 ≤ value < 2^24."""
    if value < 1 << 12:
        return [f"add {register}, {base}, #{value}"]
    return [f"mov {register}, {base}", *(step.text for step in add_constant(register, value))]


def _q(register: str) -> str:
    return register.replace("v", "q")
