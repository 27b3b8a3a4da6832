"""The hand kernel of schedules/kernels as a program that devices load."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bicompile import toolchain
from bicompile.artifact import Executable, TensorSpec
from bicompile.driver import ENTRY
from bicompile.schedules import kernels
from bicompile.targets import Target

# The numbers come first in the input, so that one object serves every shape.
_ENTRY = f"""
#include <stdint.h>
void fbck_i32(const uint8_t *, const uint8_t *, int32_t *, long, long, long);
void fbck_f32(const uint8_t *, const uint8_t *, float *, long, long, long, long);

void {ENTRY}(const float *input, float *output, void *workspace) {{
  const int32_t *head = (const int32_t *)input;  // m, n, row bytes, k, float, where a and w start
  const uint8_t *a = (const uint8_t *)input + head[5], *w = (const uint8_t *)input + head[6];
  (void)workspace;
  if (head[4])
    fbck_f32(a, w, output, head[0], head[1], head[2], head[3]);
  else
    fbck_i32(a, w, (int32_t *)output, head[0], head[1], head[2]);
}}
"""

_HEAD_BYTES = 32


@dataclass(frozen=True)
class HandKernel:
    """The hand kernel as an object with our entry; it serves every shape."""

    object: Path
    target: Target

    def call(
        self,
        a: NDArray[np.uint8],
        w: NDArray[np.uint8],
        k: int | None = None,
        first: str = "w",
    ) -> tuple[Executable, NDArray[np.float32]]:
        """A program for packed rows (m, bytes) and (n, bytes), and its input.

        Its output is (m, n): the dot products of rows of k values as float32 where k is given, else
        int32 counts of differing bits. What is not `first` ("a" or "w") ends with the input.
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
        executable = Executable(self.object, ENTRY, x, y, 64, self.target)
        return executable, memory.view(np.float32)


def build_hand_kernel(folder: Path, target: Target) -> HandKernel:
    """Build the hand kernel in a folder; raises UserError for a target that is not arm64."""
    kernel = kernels.assembly(target)
    (folder / "entry.c").write_text(_ENTRY)
    toolchain.compile_c(folder / "entry.c", folder / "entry.s", target)
    # Both texts number their labels from zero.
    entry = (folder / "entry.s").read_text().replace(".L", ".Lentry_")
    (folder / "all.s").write_text(entry + kernel)
    toolchain.assemble(folder / "all.s", folder / "fbck.o", target)
    return HandKernel(folder / "fbck.o", target)
