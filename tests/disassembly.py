"""The instructions of an object, by function."""

from pathlib import Path

from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from elftools.elf.elffile import ELFFile


def functions(obj: Path) -> dict[str, list[str]]:
    """Instructions as text, for every function of an arm64 object."""
    disassembler = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    with obj.open("rb") as file:
        elf = ELFFile(file)
        code = elf.get_section_by_name(".text").data()
        symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
    return {
        symbol.name: [
            f"{found.mnemonic} {found.op_str}"
            for found in disassembler.disasm(code[start : start + symbol["st_size"]], start)
        ]
        for symbol in symbols
        if symbol["st_info"]["type"] == "STT_FUNC"
        for start in [symbol["st_value"]]
    }
