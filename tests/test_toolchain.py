import ctypes
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from bicompile import toolchain
from bicompile.errors import UserError
from bicompile.targets import Target, find_target

A53 = find_target("cortex-a53")
HOST = find_target("host")

C = """
static const int table[3] = {1, 2, 3};
static __attribute__((noinline)) int third(int i) { return table[i % 3]; }
int model_run(int i) { return third(i) + 10; }
"""
ASM = ".text\n.globl model_run\nmodel_run: ret\n"


def compiled(folder: Path, target: Target = A53, text: str = C) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.c").write_text(text)
    toolchain.compile_c(folder / "model.c", folder / "model.o", target)
    return folder / "model.o"


@pytest.mark.parametrize("target", [A53, HOST], ids=lambda target: target.name)
def test_every_output_is_the_same_bytes_wherever_it_is_made(tmp_path: Path, target: Target) -> None:
    made = []
    for name in ("here", "there"):
        folder = tmp_path / name
        obj = compiled(folder, target)
        (folder / "text.s").write_text(ASM)
        toolchain.assemble(folder / "text.s", folder / "text.o", target)
        toolchain.archive(obj, folder / "lib.a")
        toolchain.link_shared(obj, folder / "lib.so", target)
        if target is A53:
            toolchain.link_image(obj, folder / "image", target)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    for name, content in made[0].items():
        assert str(tmp_path).encode() not in content, name
        assert b"here" not in content, name


def test_an_archive_holds_the_object_only_even_if_made_twice(tmp_path: Path) -> None:
    obj, library = compiled(tmp_path), tmp_path / "libmodel.a"
    toolchain.archive(obj, library)
    once = library.read_bytes()
    toolchain.archive(obj, library)
    assert library.read_bytes() == once
    assert once.startswith(b"!<arch>\n")
    assert once.count(b"model.o/") == 1


def test_an_image_has_code_and_constants_at_fixed_places_with_all_names(tmp_path: Path) -> None:
    toolchain.link_image(compiled(tmp_path), tmp_path / "image", A53)
    with (tmp_path / "image").open("rb") as file:
        elf = ELFFile(file)
        segments = {segment["p_flags"]: segment for segment in elf.iter_segments()}
        names = {
            symbol.name: symbol for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        }
        assert elf["e_type"] == "ET_EXEC"
        assert set(segments) == {4, 5}
        assert segments[5]["p_vaddr"] == toolchain.CODE_ADDRESS
        assert segments[4].data() == b"\1\0\0\0\2\0\0\0\3\0\0\0"
        assert {"model_run", "third"} <= set(names)


def test_a_shared_library_for_this_machine_can_be_called(tmp_path: Path) -> None:
    toolchain.link_shared(compiled(tmp_path, HOST), tmp_path / "model.so", HOST)
    assert ctypes.CDLL(str(tmp_path / "model.so")).model_run(4) == 12


def test_a_program_runs_under_qemu(tmp_path: Path) -> None:
    assert shutil.which("qemu-aarch64"), "qemu-aarch64 is not installed: apt-get install qemu-user"
    start = "_start: mov x0, #4\nbl model_run\nmov x8, #93\nsvc #0\n.globl _start\n"
    (tmp_path / "start.s").write_text(start)
    toolchain.assemble(tmp_path / "start.s", tmp_path / "start.o", A53)
    objects = [tmp_path / "start.o", compiled(tmp_path)]
    toolchain.link_executable(objects, tmp_path / "program", A53)
    assert subprocess.run(["qemu-aarch64", tmp_path / "program"], check=False).returncode == 12


def test_macros_reach_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "model.c").write_text("int model_run(void) { return VALUE; }")
    toolchain.compile_c(tmp_path / "model.c", tmp_path / "m.o", HOST, {"VALUE": 42})
    toolchain.link_shared(tmp_path / "m.o", tmp_path / "m.so", HOST)
    assert ctypes.CDLL(str(tmp_path / "m.so")).model_run() == 42


def test_the_features_of_the_target_are_what_the_assembler_accepts(tmp_path: Path) -> None:
    (tmp_path / "dot.s").write_text("sdot v0.4s, v1.16b, v2.16b\n")
    plain = replace(A53, cpu="generic")
    toolchain.assemble(
        tmp_path / "dot.s", tmp_path / "dot.o", replace(plain, features=("+neon", "+dotprod"))
    )
    with pytest.raises(UserError, match="instruction requires: dotprod"):
        toolchain.assemble(tmp_path / "dot.s", tmp_path / "dot.o", plain)


def test_a_refused_source_is_told_with_its_line(tmp_path: Path) -> None:
    source = tmp_path / "bad.s"
    source.write_text("nop\nfoo x0\n")
    with pytest.raises(UserError) as caught:
        toolchain.assemble(source, tmp_path / "bad.o", A53)
    assert str(caught.value) == (
        f"{source}: {source}:2:1: error: unrecognized instruction mnemonic"
    )


@pytest.mark.parametrize("link", [toolchain.link_image, toolchain.link_shared])
def test_an_undefined_symbol_is_told_by_name(tmp_path: Path, link: object) -> None:
    obj = compiled(tmp_path, A53, "float expf(float); float model_run(float x) { return expf(x); }")
    assert callable(link)
    with pytest.raises(UserError) as caught:
        link(obj, tmp_path / "out", A53)
    assert str(caught.value) == f"{obj}: undefined symbol: expf"


def test_an_architecture_without_a_linker_is_told(tmp_path: Path) -> None:
    other = Target("other", "riscv64", "generic", (), None, "")
    with pytest.raises(UserError, match="programs for riscv64 cannot be linked"):
        toolchain.link_shared(compiled(tmp_path), tmp_path / "out", other)


def test_a_missing_ziglang_is_one_sentence(tmp_path: Path) -> None:
    # -S: without site-packages, where ziglang is.
    code = f"""
import sys; sys.path.insert(0, {str(Path(toolchain.__file__).parents[1])!r})
from pathlib import Path
from bicompile import toolchain
toolchain.archive(Path("a.o"), Path({str(tmp_path / "a.a")!r}))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "bicompile.errors.UserError: the package ziglang is not installed: "
        "run pip install ziglang==0.17.1"
    )


def test_nothing_is_written_but_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    obj = compiled(tmp_path / "work")
    toolchain.archive(obj, tmp_path / "work" / "lib.a")
    toolchain.link_image(obj, tmp_path / "work" / "image", A53)
    assert not list(home.iterdir())
