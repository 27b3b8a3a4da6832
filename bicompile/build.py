"""Program → freestanding object: kernels, entry and constants in one assembly file."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile

from bicompile import mathematics, toolchain
from bicompile.branches import Branch
from bicompile.codegen import emit_assembly
from bicompile.driver import ENTRY, MEMORY_FUNCTIONS, constant_offsets, driver_source
from bicompile.errors import UserError
from bicompile.memory import ALIGNMENT, Plan
from bicompile.program import Program
from bicompile.targets import Target

WRITABLE_FLAG, ALLOCATED_FLAG = 1, 2  # SHF_WRITE, SHF_ALLOC


def build_object(program: Program, plan: Plan, target: Target, out: Path) -> None:
    """Compile a scheduled program and write the relocatable object `out`; see build_branches."""
    build_branches([Branch(None, program, plan)], target, out)


def build_branches(branches: Sequence[Branch], target: Target, out: Path) -> None:
    """Compile scheduled programs and write one relocatable object `out`.

    Its global symbols are the entry and the checked entry; nothing is undefined and nothing is
    writable. Equal names mean equal kernels in all branches. Raises UserError naming the symbol
    where a kernel needs one (a mathematical function, say).
    """
    programs = laid_out([branch.program for branch in branches])
    branches = [replace(b, program=p) for b, p in zip(branches, programs, strict=True)]
    kernels, microkernels, constants = (
        {name: each for program in programs for name, each in getattr(program, field).items()}
        for field in ("kernels", "microkernels", "constants")
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assembly = "\n".join([emit_assembly(kernels, target), *microkernels.values()])
        called = [name for name in MEMORY_FUNCTIONS if re.search(rf"\b{name}\b", assembly)]
        driver = driver_source(branches, called, mathematics.called_by(assembly))
        (folder / "driver.c").write_text(driver)
        toolchain.compile_c(folder / "driver.c", folder / "driver.s", target)
        (folder / "constants.bin").write_bytes(_constant_table(constants))
        text = "\n".join(
            [
                assembly,
                (folder / "driver.s").read_text(),
                _constants_assembly(folder / "constants.bin"),
            ]
        )
        (folder / "model.s").write_text(text)
        toolchain.assemble(folder / "model.s", folder / "assembled.o", target)
        toolchain.link_relocatable(folder / "assembled.o", out, target, ENTRY)
    _check_freestanding(out)


def laid_out(programs: Sequence[Program]) -> list[Program]:
    """The programs with every constant as the kernels that read it want it.

    Equal ones have one name in all programs, and different ones two. A constant that is read in
    several layouts is there in each.
    """
    names: dict[tuple[str, bytes], str] = {}
    placed = []
    for program in programs:
        constants: dict[str, np.ndarray] = {}
        calls = []
        for call in program.calls:
            layouts = program.layouts.get(call.kernel, {})
            inputs = list(call.inputs)
            for index, name in enumerate(call.inputs):
                if name in program.constants:
                    array = program.constants[name]
                    array = layouts[index](array) if index in layouts else array
                    key = (str(array.dtype), array.tobytes())
                    inputs[index] = names.setdefault(key, f"c{len(names)}")
                    constants[inputs[index]] = array
            calls.append(replace(call, inputs=tuple(inputs)))
        placed.append(replace(program, constants=constants, calls=tuple(calls)))
    return placed


def _constant_table(constants: Mapping[str, np.ndarray]) -> bytes:
    offsets, size = constant_offsets(constants)
    table = np.zeros(size, np.uint8)
    for name, array in constants.items():
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        table[offsets[name] : offsets[name] + data.size] = data
    return table.tobytes()


def _constants_assembly(table: Path) -> str:
    return f"""
\t.section .rodata,"a"
\t.balign {ALIGNMENT}
constants:
\t.incbin "{table}"
\t.section ".note.GNU-stack","",%progbits
"""


def _check_freestanding(obj: Path) -> None:
    with obj.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab").iter_symbols()
        undefined = sorted(s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name)
        writable = [
            section.name
            for section in elf.iter_sections()
            if section["sh_flags"] & WRITABLE_FLAG
            and section["sh_flags"] & ALLOCATED_FLAG
            and section["sh_size"]
        ]
    if undefined:
        raise UserError(
            f"the model needs {', '.join(undefined)} of the mathematical functions, and an object "
            f"has {', '.join(mathematics.FUNCTIONS)}; export it without the layers that need more"
        )
    if writable:
        raise RuntimeError(f"the object has writable sections: {', '.join(writable)}")
