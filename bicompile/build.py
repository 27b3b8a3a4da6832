"""Program → freestanding object: kernels, entry and constants in one assembly file."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile

from bicompile import toolchain
from bicompile.codegen import emit_assembly
from bicompile.driver import ENTRY, MEMORY_FUNCTIONS, constant_offsets, driver_source
from bicompile.errors import UserError
from bicompile.memory import ALIGNMENT, Plan
from bicompile.program import Program
from bicompile.targets import Target

WRITABLE_FLAG, ALLOCATED_FLAG = 1, 2  # SHF_WRITE, SHF_ALLOC


def build_object(program: Program, plan: Plan, target: Target, out: Path) -> None:
    """Compile a scheduled program and write the relocatable object `out`.

    Its one global symbol is the entry; nothing is undefined and nothing is writable. Raises
    UserError naming the symbol where a kernel needs one (a mathematical function, say).
    """
    program = laid_out(program)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        functions = emit_assembly(program.kernels, target)
        assembly = "\n".join([functions, *program.microkernels.values()])
        called = [name for name in MEMORY_FUNCTIONS if re.search(rf"\b{name}\b", assembly)]
        (folder / "driver.c").write_text(driver_source(program, plan, called))
        toolchain.compile_c(folder / "driver.c", folder / "driver.s", target)
        (folder / "constants.bin").write_bytes(_constant_table(program))
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


def laid_out(program: Program) -> Program:
    """The program with every constant as the kernels that read it want it; equal ones stand once.

    A constant that is read in several layouts is there in each.
    """
    constants: dict[str, np.ndarray] = {}
    names: dict[tuple[str, bytes], str] = {}

    def named(array: np.ndarray) -> str:
        key = (str(array.dtype), array.tobytes())
        if key not in names:
            names[key] = f"c{len(names)}"
            constants[names[key]] = array
        return names[key]

    calls = []
    for call in program.calls:
        layouts = program.layouts.get(call.kernel, {})
        inputs = list(call.inputs)
        for index, name in enumerate(call.inputs):
            if name in program.constants:
                array = program.constants[name]
                inputs[index] = named(layouts[index](array) if index in layouts else array)
        calls.append(replace(call, inputs=tuple(inputs)))
    return replace(program, constants=constants, calls=tuple(calls))


def _constant_table(program: Program) -> bytes:
    offsets, size = constant_offsets(program)
    table = np.zeros(size, np.uint8)
    for name, array in program.constants.items():
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
            f"the model needs {', '.join(undefined)}, which a freestanding object does not have; "
            "remove the layers that compute it (softmax, sigmoid, …) from the exported graph"
        )
    if writable:
        raise RuntimeError(f"the object has writable sections: {', '.join(writable)}")
