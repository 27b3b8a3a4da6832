from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.devices.emulator import Emulator
from bicompile.schedules import kernels
from bicompile.targets import find_target

# The numbers come first in the input, so that one object serves every shape.
HARNESS = """
#include <stdint.h>
void fbck_i32(const uint8_t *, const uint8_t *, int32_t *, long, long, long);
void fbck_f32(const uint8_t *, const uint8_t *, float *, long, long, long, long);

void model_run(const float *input, float *output, void *workspace) {
  const int32_t *head = (const int32_t *)input;  // m, n, row bytes, k, float, where a and w start
  const uint8_t *a = (const uint8_t *)input + head[5], *w = (const uint8_t *)input + head[6];
  (void)workspace;
  if (head[4])
    fbck_f32(a, w, output, head[0], head[1], head[2], head[3]);
  else
    fbck_i32(a, w, (int32_t *)output, head[0], head[1], head[2]);
}
"""

_HEAD_BYTES = 32


@dataclass
class HandKernel:
    """The hand kernel as an object with our entry."""

    object: Path

    def call(
        self, a: np.ndarray, w: np.ndarray, k: int | None = None, first: str = "w"
    ) -> tuple[Executable, np.ndarray]:
        """A program for packed rows, and its input; float results where k is given.

        What comes last touches the guard page after the input.
        """
        prepared = kernels.prepare_weights(w)
        sizes = {"a": a.size, "w": prepared.size}
        end = -(-(_HEAD_BYTES + a.size + prepared.size) // 16) * 16
        at = {first: _HEAD_BYTES}
        (last,) = sizes.keys() - {first}
        at[last] = end - sizes[last]
        memory = np.zeros(end, np.uint8)
        head = [len(a), len(w), a.shape[1], k or 0, k is not None, at["a"], at["w"], 0]
        memory[:_HEAD_BYTES] = np.array(head, np.int32).view(np.uint8)
        for name, bits in (("a", a), ("w", prepared)):
            memory[at[name] : at[name] + bits.size] = bits.ravel()
        x, y = TensorSpec("x", (end // 4,)), TensorSpec("y", (len(a), len(w)))
        target = find_target("cortex-a53")
        executable = Executable(self.object, "model_run", x, y, 64, target)
        return executable, memory.view(np.float32)

    def run(self, a: np.ndarray, w: np.ndarray, k: int | None = None, **layout: str) -> np.ndarray:
        """Counts (m, n) as int32, or float32 products where k is given."""
        executable, memory = self.call(a, w, k, **layout)
        with Emulator().load(executable) as loaded:
            output = loaded.run(memory[None]).outputs[0]
        return output if k is not None else output.view(np.int32)


@pytest.fixture(scope="session")
def hand_kernel(tmp_path_factory: pytest.TempPathFactory) -> HandKernel:
    folder, target = tmp_path_factory.mktemp("fbck"), find_target("cortex-a53")
    (folder / "harness.c").write_text(HARNESS)
    toolchain.compile_c(folder / "harness.c", folder / "harness.s", target)
    # Both texts number their labels from zero.
    harness = (folder / "harness.s").read_text().replace(".L", ".Lharness_")
    (folder / "all.s").write_text(harness + kernels.assembly(target))
    toolchain.assemble(folder / "all.s", folder / "fbck.o", target)
    return HandKernel(folder / "fbck.o")
