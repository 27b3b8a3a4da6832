"""An object as a fixed-address image: the segments to load and the names of its code."""

import bisect
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.errors import UserError

# By the segment's flags, as the linker script gives them.
_CODE = "the code"
_SEGMENT_NAMES = {4: "the constants", 5: _CODE, 6: "the static variables"}


@dataclass(frozen=True)
class Segment:
    """Bytes that lie at `address`; the name says what they are to a person."""

    name: str
    address: int
    data: bytes


@dataclass(frozen=True)
class Image:
    """What linking an object gave.

    Attributes:
        entry: address of the entry.
        code: the segment that holds the instructions.
        data: the other segments.
        symbols: (address, name) of the code's symbols, by address, one for an address; the first
            is the start of the code.
    """

    entry: int
    code: Segment
    data: tuple[Segment, ...]
    symbols: tuple[tuple[int, str], ...]

    def name(self, address: int) -> str:
        """The address in the code as `symbol+0x10`; elsewhere as a number."""
        if not 0 <= address - self.code.address < len(self.code.data):
            return hex(address)
        at = bisect.bisect_right(self.symbols, (address, "\U0010ffff")) - 1
        start, name = self.symbols[at]
        return f"{name}+{address - start:#x}" if address > start else name


def link(executable: Executable) -> Image:
    """Link the object and read the result.

    Raises UserError when it cannot be linked or does not define the entry.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        toolchain.link_image(executable.object, path, executable.target)
        elf = ELFFile(io.BytesIO(path.read_bytes()))
    loaded = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    segments = [
        Segment(
            _SEGMENT_NAMES[segment["p_flags"]],
            segment["p_vaddr"],
            segment.data().ljust(segment["p_memsz"], b"\0"),
        )
        for segment in loaded
    ]
    code = next((segment for segment in segments if segment.name == _CODE), None)
    if code is None:
        raise _no_entry(executable)
    end = code.address + len(code.data)
    # At one address functions come before plain labels and global names before local ones.
    found = sorted(
        (
            symbol["st_value"],
            symbol["st_info"]["type"] != "STT_FUNC",
            symbol["st_info"]["bind"] == "STB_LOCAL",
            symbol.name,
        )
        for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        if symbol["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE")
        and code.address <= symbol["st_value"] < end
        and not symbol.name.startswith("$")
    )
    names: dict[int, str] = {}
    for address, _, _, name in found:
        names.setdefault(address, name)
    entry = next((address for address, _, _, name in found if name == executable.entry), None)
    if entry is None:
        raise _no_entry(executable)
    names.setdefault(code.address, "the code's start")
    data = tuple(segment for segment in segments if segment is not code)
    return Image(entry, code, data, tuple(sorted(names.items())))


def _no_entry(executable: Executable) -> UserError:
    return UserError(
        f"{executable.object} defines no function {executable.entry}: compile the model again"
    )
