"""The hand-written kernel that schedules are compared with: FBCK of BiFSMN, as assembly and C.

A user's measure of our schedules; no artifact contains it.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bicompile import toolchain
from bicompile.errors import UserError
from bicompile.targets import Target

VECTOR_BYTES = 16
GROUP = 4
"""Weight rows of one tile."""

FUNCTIONS = ("fbck_i32", "fbck_f32")
"""C functions of the kernel; fbck.c has their parameters."""


def assembly(target: Target) -> str:
    """The kernel as assembly text for an aarch64 target: the functions above are global.

    Raises UserError for another architecture.
    """
    if target.arch != "aarch64":
        raise UserError(
            f"the hand kernel is written for arm64 and cannot be built for {target.name} "
            f"({target.arch}): choose cortex-a53 or another arm64 target"
        )
    folder = Path(__file__).parent
    with tempfile.TemporaryDirectory() as name:
        driver = Path(name) / "fbck.s"
        toolchain.compile_c(folder / "fbck.c", driver, target)
        return driver.read_text() + (folder / "fbck_strip.s").read_text()


def prepare_weights(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packed weight rows (n, row_bytes) in the kernel's layout: (groups, rounds, 4, 16) bytes.

    A round holds 16 bytes of each of four rows. Where row_bytes is not a multiple of 16 the first
    round holds the last row_bytes % 16 bytes, after zeros; the others follow in order. The last
    group holds the last four rows, also where three of them are in the group before; with fewer
    than four rows in all it ends with zeros.
    """
    n, row_bytes = rows.shape
    tail = row_bytes % VECTOR_BYTES
    first = np.zeros((n, VECTOR_BYTES if tail else 0), np.uint8)
    if tail:
        first[:, -tail:] = rows[:, -tail:]
    aligned = np.concatenate([first, rows[:, : row_bytes - tail]], axis=1)
    aligned = np.pad(aligned, ((0, max(GROUP - n, 0)), (0, 0)))
    starts = [min(start, len(aligned) - GROUP) for start in range(0, len(aligned), GROUP)]
    groups = np.stack([aligned[start : start + GROUP] for start in starts])
    rounds = groups.reshape(len(starts), GROUP, -1, VECTOR_BYTES)
    return np.ascontiguousarray(rounds.transpose(0, 2, 1, 3))
