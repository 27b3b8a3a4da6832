"""Tables with a row for every row of results: equal rows lie once.

What differs only at borders, as products and what follows from them do, has few different rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.weights import VECTOR_BYTES


def lay_out(table: NDArray[Any]) -> NDArray[np.uint8]:
    """(rows, n), n of whole vectors: for every row how many bytes on it lies, uint32; then they."""
    # By their bits: −0 and 0 are not the same.
    distinct, chosen = np.unique(table.view(np.uint32), axis=0, return_inverse=True)
    head = -(-4 * len(table) // VECTOR_BYTES) * VECTOR_BYTES
    offsets = np.zeros(head // 4, np.uint32)
    offsets[: len(table)] = head + chosen.ravel() * distinct[0].nbytes - 4 * np.arange(len(table))
    return np.concatenate([offsets.view(np.uint8), distinct.view(np.uint8).ravel()])


def next_row(row: str, told: str) -> list[str]:
    """Let the register `row` point to a row; `told` moves on to where the next one is told."""
    return [f"ldr w{row[1:]}, [{told}]", f"add {row}, {row}, {told}", f"add {told}, {told}, #4"]
