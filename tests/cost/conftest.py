from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.cost.decode import Instruction, decode
from bicompile.targets import find_target

Program = Callable[[str], Executable]
Assemble = Callable[[str], tuple[Instruction, ...]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """An Executable of the lines of `model_run`, separated by semicolons."""

    def build(lines: str) -> Executable:
        target = find_target("cortex-a53")
        source, obj = tmp_path / "program.s", tmp_path / "program.o"
        head = ".text\n.globl model_run\n.type model_run,@function\nmodel_run:\n"
        source.write_text(head + lines.replace(";", "\n") + "\nret\n")
        toolchain.assemble(source, obj, target)
        x = TensorSpec("x", (16,))
        return Executable(obj, "model_run", x, TensorSpec("y", (16,)), 64, target)

    return build


@pytest.fixture
def assemble(tmp_path: Path) -> Assemble:
    """Decoded instructions of assembly lines, separated by semicolons."""

    def build(lines: str) -> tuple[Instruction, ...]:
        source, obj = tmp_path / "lines.s", tmp_path / "lines.o"
        source.write_text(lines.replace(";", "\n") + "\n")
        toolchain.assemble(source, obj, find_target("cortex-a53"))
        with obj.open("rb") as file:
            return decode(ELFFile(file).get_section_by_name(".text").data(), 0)

    return build
