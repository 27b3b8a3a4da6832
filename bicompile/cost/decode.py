"""What arm64 instructions read, write and occupy, as far as the in-order model asks.

Capstone 5 parses; its own lists of registers read and written are not used: they miss the third
register of `ld1`, the kept half of `xtn2`, and take the source of `cmp` for a result.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from capstone import arm64_const as arm64

from bicompile.errors import UserError

Unit = Literal["vector", "memory", "branch", "integer"]

FLAGS = 64
"""Number of the condition flags as a register; x0 to x30 are 0 to 30, sp 31, v0 to v31 32 to 63."""

_VECTOR_0 = 32
# Latencies in cycles, from the in-order model (docs/cost-model.md).
_INTEGER, _MULTIPLY, _VECTOR, _FLOAT = 1, 3, 4, 5
_INTEGER_LOAD, _VECTOR_LOAD, _WRITE_BACK = 3, 4, 1

_BRANCH = re.compile(r"b|b\..*|bl|blr|br|ret|cbn?z|tbn?z")
_MEMORY = re.compile(r"ld.*|st.*|prfu?m")
_MULTIPLIES = re.compile(r"m(add|sub|ul|neg)|[su]m(ull|ulh|addl|subl|negl)|[su]div")
_FLOATS = re.compile(r"f(?!mov$).*|[su]cvtf")
_NO_RESULT = re.compile(r"f?cc?m[pn]e?|tst|fccmpe|msr|nop|hint|[di][sm]b")
# What adds to its destination, or keeps a part of it, has to wait for it.
_KEEPS_DESTINATION = re.compile(
    r"[su]adalp|[su]abal?2?|[su]?ml[as]l?2?|[su]r?sra|[su]dot|s[rl]i|bit|bif|bsl|fml[as]l?2?|tbx"
    r"|sqdml[as]l2?|sqrdml[as]h|usqadd|suqadd|[a-z]+n2|ins|movk|bfi|bfxil|bfm|bfc"
)
_READS_CARRY = re.compile(r"adcs?|sbcs?|ngcs?")
_ALWAYS = (arm64.ARM64_CC_INVALID, arm64.ARM64_CC_AL, arm64.ARM64_CC_NV)


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        text: as an assembler writes it.
        unit: what executes it; moves between vector and general registers are "vector".
        hold: cycles for which it occupies a load/store unit; 1 elsewhere.
        reads: registers it waits for.
        writes: registers and the cycles until each can be read.
        jump: bytes from here to where a branch goes; None where it does not or a register says.
    """

    text: str
    unit: Unit
    hold: int
    reads: tuple[int, ...]
    writes: tuple[tuple[int, int], ...]
    jump: int | None = None

    @property
    def is_vector(self) -> bool:
        """Whether the ASIMD and floating-point unit executes it."""
        return self.unit == "vector"

    @property
    def vector_registers(self) -> frozenset[int]:
        """Numbers (0 to 31) of the vector registers that it names."""
        named = {*self.reads, *(register for register, _ in self.writes)}
        return frozenset(n - _VECTOR_0 for n in named if _VECTOR_0 <= n < FLAGS)

    @property
    def vectors_loaded(self) -> int:
        """How many vector registers it loads."""
        if self.unit != "memory":
            return 0
        return sum(register >= _VECTOR_0 for register, _ in self.writes)


def decode(code: bytes, address: int) -> tuple[Instruction, ...]:
    """Decode whole instructions that lie at `address`.

    Raises UserError with the address of a word that is no instruction.
    """
    words = [code[at : at + 4] for at in range(0, len(code), 4)]
    decoded = [_word(word) for word in words]
    if None in decoded:
        raise UserError(
            f"the word at {address + 4 * decoded.index(None):#x} of the code is no instruction "
            "that capstone knows: its cost cannot be modelled"
        )
    return tuple(instruction for instruction in decoded if instruction is not None)


@functools.cache
def _disassembler() -> Cs:
    disassembler = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    disassembler.detail = True
    return disassembler


@functools.lru_cache(1 << 16)  # programs repeat their words, and tuning repeats its programs
def _word(word: bytes) -> Instruction | None:
    found = next(_disassembler().disasm(word, 0), None)
    return None if found is None else _decode(found)


def _decode(found: Any) -> Instruction:
    name = found.mnemonic
    text = f"{name} {found.op_str}".strip()
    registers = [op for op in found.operands if op.type == arm64.ARM64_OP_REG]
    if _MEMORY.fullmatch(name):
        return _memory(found, text)
    numbers = [_number(found, op.reg) for op in registers]
    flags_read = found.cc not in _ALWAYS or _READS_CARRY.fullmatch(name)
    reads: list[int | None] = [FLAGS] if flags_read else []
    if _BRANCH.fullmatch(name):
        # `ret` names no operand; capstone writes `ret x1` where it is not x30.
        returns = [30] if name == "ret" and not numbers else []
        links = ((30, _INTEGER),) if name in ("bl", "blr") else ()
        waits = _known([*reads, *numbers, *returns])
        return Instruction(text, "branch", 1, waits, links, _distance(found))
    vector = any(number is not None and _VECTOR_0 <= number < FLAGS for number in numbers)
    latency = _latency(name, vector)
    has_result = bool(numbers) and not _NO_RESULT.fullmatch(name)
    if has_result and not _keeps_destination(found, registers):
        reads += numbers[1:]
    else:
        reads += numbers
    results = [numbers[0]] if has_result else []
    if found.update_flags:
        results.append(FLAGS)
    writes = tuple((number, latency) for number in _known(results))
    return Instruction(text, "vector" if vector else "integer", 1, _known(reads), writes)


def _distance(found: Any) -> int | None:
    """To where a branch goes from itself; it was decoded at address 0."""
    kinds = [op.type for op in found.operands]
    if arm64.ARM64_OP_IMM not in kinds:
        return None
    distance = int(found.operands[-1].imm)
    return distance - (1 << 64) if distance >= 1 << 63 else distance


def _latency(name: str, vector: bool) -> int:
    if vector:
        return _FLOAT if _FLOATS.fullmatch(name) else _VECTOR
    return _MULTIPLY if _MULTIPLIES.fullmatch(name) else _INTEGER


def _keeps_destination(found: Any, registers: Any) -> bool:
    if _KEEPS_DESTINATION.fullmatch(found.mnemonic):
        return True
    if found.mnemonic == "mov":  # an element of a vector, which capstone does not call `ins`
        return bool(registers[0].vector_index >= 0)
    # `orr v0.4s, #1`: the vector forms with an immediate work on their destination.
    return found.mnemonic in ("orr", "bic") and len(registers) == 1


def _memory(found: Any, text: str) -> Instruction:
    """A load, store or prefetch: [results or data], address, [post-index]."""
    name, operands = found.mnemonic, found.operands
    kinds = [op.type for op in operands]
    if arm64.ARM64_OP_MEM not in kinds:  # `ldr x0, <address of a constant>`
        at = len(operands)
        address, after = [], []
    else:
        at = kinds.index(arm64.ARM64_OP_MEM)
        memory = operands[at].mem
        address = [_number(found, reg) for reg in (memory.base, memory.index) if reg]
        after = [_number(found, op.reg) for op in operands[at + 1 :] if op.type == kinds[0]]
    moved = [op for op in operands[:at] if op.type == arm64.ARM64_OP_REG]
    data = [_number(found, op.reg) for op in moved]
    lane = any(op.vector_index >= 0 for op in moved)
    loads = name.startswith("ld")
    reads = [*address, *after, *(data if lane or not loads else [])]
    writes = []
    if loads:
        for number in _known(data):
            writes.append((number, _VECTOR_LOAD if number >= _VECTOR_0 else _INTEGER_LOAD))
    if found.writeback:
        writes += [(number, _WRITE_BACK) for number in _known(address[:1])]
    return Instruction(text, "memory", _hold(found, moved, lane), _known(reads), tuple(writes))


def _hold(found: Any, moved: Any, lane: bool) -> int:
    """Cycles on the load/store unit. LD3 is between LD2 and LD4; stores are as loads."""
    name = found.mnemonic
    structure = re.fullmatch(r"(?:ld|st)([1-4])(r?)", name)
    if structure is None:
        pair = len(moved) == 2 and found.reg_name(moved[0].reg).startswith("q")
        return 2 if pair else 1
    if structure[1] == "1" or structure[2] or lane:
        return len(moved)
    return 2 * int(structure[1])


def _number(found: Any, register: int) -> int | None:
    """Our number of a register; None for the zero register and system registers."""
    name = found.reg_name(register)
    aliases = {"fp": 29, "lr": 30, "sp": 31, "wsp": 31}
    if name in aliases:
        return aliases[name]
    if name in ("xzr", "wzr") or not name[1:].isdigit():
        return None
    return int(name[1:]) + (0 if name[0] in "xw" else _VECTOR_0)


def _known(numbers: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number for number in numbers if number is not None))
