import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.targets import find_target

Program = Callable[..., Executable]


@pytest.fixture(scope="session", autouse=True)
def _qemu_is_installed() -> None:
    assert shutil.which("qemu-aarch64"), "qemu-aarch64 is not installed: apt-get install qemu-user"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Builds an Executable of C text, or of assembly: the lines of `model_run`."""
    made = iter(range(100))

    def build(
        c: str = "",
        *,
        asm: str = "",
        inputs: int = 16,
        outputs: int = 16,
        workspace: int = 64,
        target: str = "cortex-a53",
    ) -> Executable:
        chosen = find_target(target)
        source, obj = (tmp_path / f"{next(made)}{suffix}" for suffix in (".c", ".o"))
        if asm:
            head = ".text\n.globl model_run\n.type model_run,@function\nmodel_run:\n"
            source.write_text(head + asm.replace(";", "\n") + "\nret\n")
            toolchain.assemble(source, obj, chosen)
        else:
            source.write_text(c)
            toolchain.compile_c(source, obj, chosen)
        x, y = TensorSpec("x", (inputs,)), TensorSpec("y", (outputs,))
        return Executable(obj, "model_run", x, y, workspace, chosen)

    return build
