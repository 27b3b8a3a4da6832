"""Assembler, C compiler, archiver and linker: LLVM's own, as the ziglang package carries them.

Zig's driver is passed by: `clang`, `ld.lld` and `ar` are called as such, so there is no cache, no
libc to build and nothing that differs between two machines. Same input, same bytes.
"""

import errno
import functools
import importlib.util
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bicompile.errors import UserError
from bicompile.targets import Target, machine_arch

CODE_ADDRESS = 0x4000_0000

# Code, constants and what claims to be writable are far apart, so that running off the end of one
# never lands in another. Constants end with a page, for the same reason.
_IMAGE_SCRIPT = f"""
PHDRS {{ constants PT_LOAD FLAGS(4); code PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }}
SECTIONS {{
  . = (0x20000000 - SIZEOF(.rodata)) & ~(ALIGNOF(.rodata) - 1);
  .rodata : {{ *(.rodata .rodata.* .data.rel.ro .data.rel.ro.*) }} :constants
  . = {CODE_ADDRESS:#x};
  .text : {{ *(.text .text.*) }} :code
  . = 0x48000000;
  .data : {{ *(.got .data .data.* .bss .bss.*) }} :data
  /DISCARD/ : {{ *(.eh_frame .comment .note.*) }}
}}
"""


_RELOCATABLE_SCRIPT = """
SECTIONS {
  .text : { *(.text .text.*) }
  .rodata : { *(.rodata .rodata.*) }
  .note.GNU-stack : { *(.note.GNU-stack) }
  /DISCARD/ : { *(.debug* .rela.debug* .eh_frame .rela.eh_frame .comment .llvm_addrsig) }
}
"""


def this_machine() -> Target:
    """A plain target for helper code that runs on this machine: any processor of its kind."""
    arch = machine_arch()
    cpu = "x86-64" if arch == "x86_64" else "generic"
    return Target("this machine", arch, cpu, (), None, f"any {arch} processor")


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package ziglang is not installed: run pip install ziglang==0.17.1")
    return Path(spec.submodule_search_locations[0])


def _run(tool: str, arguments: Sequence[str | Path], about: Path) -> None:
    try:
        done = subprocess.run(
            [_package() / "zig", tool, *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UserError(
            f"ziglang cannot be run ({error.strerror}): reinstall it with "
            "pip install --force-reinstall ziglang==0.17.1"
        ) from error
    # The linker writes through mapped memory: where the disk is full, that is a bus error.
    if "No space left on device" in done.stderr or done.returncode == -signal.SIGBUS:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(about))
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        # The line that says "error:" tells more than the last, which quotes source or call sites.
        told = next((line for line in lines if "error:" in line), lines[-1]).strip()
        raise UserError(f"{about}: {told.removeprefix(f'{tool}: error: ')}")


def _processor(target: Target) -> list[str]:
    features = [word for feature in target.features for word in ("-target-feature", feature)]
    return ["-target-cpu", target.cpu, *features]


def assemble(source: Path, out: Path, target: Target) -> None:
    """Assemble one `.s` file to a relocatable object.

    Raises UserError with the assembler's message when it refuses the source.
    """
    options = ["-triple", target.triple, *_processor(target), "-filetype", "obj"]
    _run("-cc1as", [*options, "-o", out, source], source)


def compile_c(
    source: Path,
    out: Path,
    target: Target,
    defines: Mapping[str, str | int] | None = None,
) -> None:
    """Compile one C file (freestanding: no libc, compiler headers only).

    `out` becomes assembly where its name ends in .s, else a relocatable object. `defines` are
    preprocessor macros. The code is position independent and optimized (-O2).
    Raises UserError with the compiler's message when it refuses the source.
    """
    processor = [word for option in _processor(target) for word in ("-Xclang", option)]
    macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    options = ["-O2", "-fPIC", "-ffreestanding", "-fno-asynchronous-unwind-tables"]
    headers = f"-isystem{_package() / 'lib' / 'include'}"
    arguments = [f"--target={target.triple}", *processor, *options, headers, *macros]
    stop = "-S" if out.suffix == ".s" else "-c"
    _run("clang", [*arguments, stop, source, "-o", out], source)


def archive(obj: Path, out: Path) -> None:
    """Put one object into a new static library, without dates and owners."""
    out.unlink(missing_ok=True)
    _run("ar", ["rcsD", out, obj], obj)


def link_relocatable(obj: Path, out: Path, target: Target, entry: str) -> None:
    """Link one object to a relocatable one that holds code and constants and nothing else.

    What `entry` does not reach is dropped, and so are debugging sections.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".ld") as script:
        script.write(_RELOCATABLE_SCRIPT)
        script.flush()
        _link(["-r", "--gc-sections", "-e", entry, "-T", script.name], [obj], out, target)


def link_image(obj: Path, out: Path, target: Target) -> None:
    """Link one freestanding object to a fixed-address ELF for the emulator.

    Its segments are loaded as they are: nothing is left to relocate. Code starts at CODE_ADDRESS;
    the symbol table is kept, local symbols included.
    Raises UserError naming the symbol when the object needs one that it does not define.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".ld") as script:
        script.write(_IMAGE_SCRIPT)
        script.flush()
        options = ["-static", "-T", script.name, "-z", "max-page-size=4096", "-z", "norelro"]
        _link([*options, "-e", "0"], [obj], out, target)


def link_executable(objects: Sequence[Path], out: Path, target: Target) -> None:
    """Link objects that need no libc to a static Linux program that starts at `_start`.

    Raises UserError naming the symbol when none of them defines one that is needed.
    """
    _link(["-static", "-e", "_start"], objects, out, target)


def link_shared(obj: Path, out: Path, target: Target, *others: Path) -> None:
    """Link position-independent objects to a shared library that needs no other.

    Raises UserError naming the symbol when the object needs one that it does not define.
    """
    _link(["-shared", "--no-undefined"], [obj, *others], out, target)


def _link(options: Sequence[str], objects: Sequence[Path], out: Path, target: Target) -> None:
    emulation = {"aarch64": "aarch64linux", "x86_64": "elf_x86_64"}.get(target.arch)
    if emulation is None:
        raise UserError(
            f"programs for {target.arch} cannot be linked: use a target for aarch64 or x86_64"
        )
    _run("ld.lld", ["-m", emulation, *options, "-o", out, *objects], objects[0])
