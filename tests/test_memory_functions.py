"""The object's own memcpy and memset: every length, and no byte beside it."""

from pathlib import Path

import numpy as np
import pytest

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.devices import WORKSPACE_FILL, open_device
from bicompile.driver import ENTRY, MEMORY_FUNCTIONS
from bicompile.targets import find_target

LENGTHS, APART = 300, 320

CALLS = {
    "memcpy": "copy(work, (const char *)x + 3, length);",
    "memset": "fill(work, 0x1a7, length);",
}
ENTRY_OF = """
void %s(const float *x, float *y, char *w) {
  for (int length = 0; length < %d; length++) {
    char *const work = w + length * %d + 5;
    %s
  }
}
"""


@pytest.mark.parametrize("target", ["cortex-a53", "host"])
@pytest.mark.parametrize("name", MEMORY_FUNCTIONS)
def test_every_length_is_written_and_nothing_beside_it(
    name: str, target: str, tmp_path: Path
) -> None:
    source, processor = tmp_path / "all.c", find_target(target)
    entry = ENTRY_OF % (ENTRY, LENGTHS, APART, CALLS[name])
    source.write_text(MEMORY_FUNCTIONS[name] + entry)
    toolchain.compile_c(source, tmp_path / "all.o", processor)
    x = np.random.default_rng(0).standard_normal((1, APART // 4)).astype(np.float32)
    specs = TensorSpec("x", (APART // 4,)), TensorSpec("y", (4,))
    executable = Executable(tmp_path / "all.o", ENTRY, *specs, LENGTHS * APART, processor)
    with open_device("host" if target == "host" else "emulator").load(executable) as loaded:
        workspaces = loaded.run(x, keep_workspace=True).workspaces
    assert workspaces is not None
    read = x.view(np.uint8)[0, 3:] if name == "memcpy" else np.full(APART, 0xA7, np.uint8)
    for length, found in enumerate(workspaces[0].reshape(LENGTHS, APART)):
        expected = np.full(APART, WORKSPACE_FILL, np.uint8)
        expected[5 : 5 + length] = read[:length]
        np.testing.assert_array_equal(found, expected)
