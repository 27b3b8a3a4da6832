import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from elftools.elf.elffile import ELFFile
from onnx import helper

from bicompile import toolchain
from bicompile.artifact import TensorSpec, read_artifact
from bicompile.branches import Branch
from bicompile.build import build_object, laid_out
from bicompile.driver import CHECKED_ENTRY, ENTRY, driver_source, header_source
from bicompile.errors import UserError
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target

A53 = find_target("cortex-a53")
WRITE, ALLOCATE = 1, 2

COMPILE = """
import sys
import bicompile
bicompile.compile(sys.argv[1], target="cortex-a53", out=sys.argv[2], check=False)
"""


def elf(obj: Path) -> ELFFile:
    return ELFFile(obj.open("rb"))


@pytest.fixture(params=["compiled_folder", "host_folder"], ids=["cortex-a53", "host"])
def obj(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param) / "model.o"


def test_nothing_is_undefined_and_the_entries_are_the_global_symbols(obj: Path) -> None:
    symbols = list(elf(obj).get_section_by_name(".symtab").iter_symbols())
    assert not [s.name for s in symbols if s.name and s["st_shndx"] == "SHN_UNDEF"]
    exported = {s.name for s in symbols if s["st_info"]["bind"] != "STB_LOCAL"}
    assert exported == {ENTRY, CHECKED_ENTRY}


def test_no_section_of_the_object_can_be_written(obj: Path) -> None:
    for section in elf(obj).iter_sections():
        assert not section["sh_flags"] & ALLOCATE or not section["sh_flags"] & WRITE, section.name


def test_the_object_and_the_library_name_no_folder_of_the_build(obj: Path) -> None:
    for file in (obj, obj.with_name("libmodel.a")):
        content = file.read_bytes()
        for folder in (tempfile.gettempdir(), Path.home(), Path(toolchain.__file__).parent):
            assert str(folder).encode() not in content, file.name


def test_the_stack_is_not_executable(obj: Path) -> None:
    assert elf(obj).get_section_by_name(".note.GNU-stack")["sh_flags"] == 0


def test_a_compile_elsewhere_gives_the_same_bytes(
    keyword_onnx: Path, compiled_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "another place"
    folder.mkdir()
    # Blocking torch takes its import out of the time; a compile needs none.
    code = "import sys; sys.modules['torch'] = None" + COMPILE
    subprocess.run(
        [sys.executable, "-c", code, keyword_onnx, "out"],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": "4242", "TMPDIR": str(folder)},
        check=True,
    )
    made = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert made == {path.name: path.read_bytes() for path in compiled_folder.iterdir()}


def test_many_threads_can_run_one_object_at_once(host_folder: Path, tmp_path: Path) -> None:
    executable = read_artifact(host_folder).executable
    toolchain.link_shared(executable.object, tmp_path / "model.so", executable.target)
    entry = ctypes.CDLL(str(tmp_path / "model.so"))[ENTRY]
    inputs = np.random.default_rng(0).standard_normal((8, 32 * 32)).astype(np.float32) * 8

    def run(x: np.ndarray) -> np.ndarray:
        memory = np.empty(executable.workspace_bytes + 64, np.uint8)
        workspace = memory.ctypes.data + -memory.ctypes.data % 64
        y = np.empty(12, np.float32)
        pointers = (x.ctypes.data, y.ctypes.data, workspace)
        entry(*map(ctypes.c_void_p, pointers))  # without the interpreter's lock
        return y

    alone = [run(x) for x in inputs]
    together: list[bool] = []

    def many(index: int) -> None:
        together.extend(np.array_equal(run(inputs[index]), alone[index]) for _ in range(200))

    threads = [threading.Thread(target=many, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [True] * (200 * len(inputs))


def build(model: onnx.ModelProto, out: Path) -> None:
    program = schedule_program(lower(model), A53.arch)
    build_object(program, plan_memory(program), A53, out)


@pytest.mark.parametrize(("op", "symbol"), [("Sin", "sinf"), ("Cos", "cosf")])
def test_a_function_that_only_libm_has_is_told_by_name(
    op: str, symbol: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        build(networks.float_network(op), tmp_path / "model.o")
    assert str(caught.value) == (
        f"the model needs {symbol} of the mathematical functions, and an object has expf, logf, "
        "erff, powf; export it without the layers that need more"
    )


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid", "Tanh", "Erf", "Gelu", "LogSoftmax"])
def test_a_model_that_ends_with_a_function_needs_no_libm(op: str, tmp_path: Path) -> None:
    build(networks.float_network(op), tmp_path / "model.o")


def test_a_model_that_fills_and_copies_much_needs_no_libc(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Concat", ["padded", "padded"], ["y"], axis=1),
    ]
    pads = np.array([0, 0, 5, 5, 0, 0, 5, 5])
    model = networks.model_of(nodes, {"pads": pads}, x=(1, 2, 40, 40), y=(1, 4, 50, 50))
    build(model, tmp_path / "model.o")
    bound = {
        s.name: s["st_info"]["bind"]
        for s in elf(tmp_path / "model.o").get_section_by_name(".symtab").iter_symbols()
    }
    assert bound.pop(ENTRY) == bound.pop(CHECKED_ENTRY) == "STB_GLOBAL"
    assert set(bound.values()) == {"STB_LOCAL"}


def test_constants_are_in_the_object_aligned_and_once(compiled_folder: Path) -> None:
    program = schedule_program(lower(onnx.load(compiled_folder / "lowered.onnx")), A53.arch)
    section = elf(compiled_folder / "model.o").get_section_by_name(".rodata")
    data = section.data()
    assert section["sh_addralign"] >= 64
    for array in laid_out([program])[0].constants.values():
        if array.nbytes >= 16 and array.any():
            assert data.count(array.tobytes()) == 1


STRANGE = ("a\\", "a\nmodel_run();", "a*/b", "trigraph??/", "ü — /*", "", '"')


def test_no_name_in_the_model_changes_the_c_code(compiled_folder: Path) -> None:
    model = onnx.load(compiled_folder / "lowered.onnx")
    plain = lower(model)
    for index, node in enumerate(model.graph.node):
        node.name = STRANGE[index % len(STRANGE)]
    program = lower(model)
    source, named = (driver_source([Branch(None, p, plan_memory(p))], []) for p in (plain, program))
    assert named == source


HEADER = header_source(
    TensorSpec("x*/ int y;", (1, 2)), TensorSpec("y", (3,)), 128, ("a", "b\n*/", "c\\")
)
USER = """
#include "model.h"
static float input[MODEL_INPUT_ELEMENTS], output[MODEL_OUTPUT_ELEMENTS];
static char workspace[MODEL_WORKSPACE_BYTES];
void use(void) { model_run(input, output, workspace); }
"""


@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("strange", [False, True], ids=["ordinary names", "strange names"])
def test_the_header_compiles(
    language: str, strange: bool, compiled_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(compiled_folder / "model.h", tmp_path)
    if strange:
        (tmp_path / "model.h").write_text(HEADER)
    suffix = "cpp" if language == "c++" else "c"
    source = tmp_path / f"use.{suffix}"
    source.write_text(USER)
    toolchain.compile_c(source, tmp_path / "use.o", A53)
    symbols = elf(tmp_path / "use.o").get_section_by_name(".symtab").iter_symbols()
    assert "model_run" in {symbol.name for symbol in symbols}  # and not a mangled name


def test_the_header_tells_shapes_and_sizes(compiled_folder: Path) -> None:
    text = (compiled_folder / "model.h").read_text()
    artifact = read_artifact(compiled_folder)
    assert "x: float32 (1, 1, 32, 32)" in text
    assert "#define MODEL_INPUT_ELEMENTS 1024\n" in text
    assert "#define MODEL_OUTPUT_ELEMENTS 12\n" in text
    assert f"#define MODEL_WORKSPACE_BYTES {artifact.workspace_bytes}\n" in text
    assert ", ".join(networks.LABELS) in text
