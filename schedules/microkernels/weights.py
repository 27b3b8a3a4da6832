"""How a row of packed bits is cut into pieces, and the order in which a tile reads its weights.

A row of KB bytes is KB // 16 vectors and a rest of 8, 4, 2 and 1 bytes. A vector of weights holds
one piece of as many outputs as fill 16 bytes: 16 bytes of one output, 8 bytes of two, … 1 byte of
sixteen. So a block of 16 outputs is exactly KB vectors, and a row costs its own bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VECTOR_BYTES = 16
BLOCK = 16
"""Outputs that a tile computes at once."""

PIECES_PER_CHUNK = 4
VECTORS_PER_CHUNK = 3
"""So that lanes of 8 bits hold their sums, see count_tree."""


@dataclass(frozen=True)
class Piece:
    """`size` bytes (16, 8, 4, 2 or 1) of a row."""

    size: int

    @property
    def level(self) -> int:
        """The level of the tree whose vectors have as many lanes an output: 0 for 16 bytes."""
        return (VECTOR_BYTES // self.size).bit_length() - 1


Chunk = tuple[Piece, ...]
"""Pieces that lie one after the other and are summed in lanes of 8 bits."""


def cut(row_bytes: int) -> tuple[Chunk, ...]:
    """Cut a row into chunks, in the order of its bytes.

    Whole vectors come three a chunk, what is left over first; the rest of the row is the last
    chunk, or stays with the vectors where both fit one.
    """
    vectors = row_bytes // VECTOR_BYTES
    rest = tuple(Piece(size) for size in (8, 4, 2, 1) if row_bytes & size)
    whole = (Piece(VECTOR_BYTES),)
    if vectors <= VECTORS_PER_CHUNK and vectors + len(rest) <= PIECES_PER_CHUNK:
        return (whole * vectors + rest,)
    head = vectors % VECTORS_PER_CHUNK
    chunks = [whole * head] if head else []
    chunks += [whole * VECTORS_PER_CHUNK] * (vectors // VECTORS_PER_CHUNK)
    return tuple(chunks + ([rest] if rest else []))


def leaves(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """What a tile reads for one chunk: (piece, group), the group counted in 16 / size outputs.

    The order is that of a walk through the tree: what is added first comes first.
    """
    for half in range(2):
        yield from _below(chunk, 3, half)
    yield from ((index, 0) for index, piece in enumerate(chunk) if piece.level == 4)


def _below(chunk: Chunk, level: int, group: int) -> Iterator[tuple[int, int]]:
    if level:
        yield from _below(chunk, level - 1, 2 * group)
        yield from _below(chunk, level - 1, 2 * group + 1)
    yield from ((index, group) for index, piece in enumerate(chunk) if piece.level == level)


def lay_out(weights: NDArray[np.uint8], row_bytes: int) -> NDArray[np.uint8]:
    """Weights as tiles read them: (N, ≥ row_bytes) → (ceil(N / 16), row_bytes, 16) uint8.

    Bytes of a row after `row_bytes` are left out; outputs after the last are clear.
    """
    blocks = -(-len(weights) // BLOCK)
    padded = np.zeros((blocks * BLOCK, row_bytes), np.uint8)
    padded[: len(weights)] = weights[:, :row_bytes]
    outputs, columns = _order(cut(row_bytes))
    laid: NDArray[np.uint8] = padded.reshape(blocks, BLOCK, row_bytes)[:, outputs, columns]
    return laid


def _order(chunks: Sequence[Chunk]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every byte of a laid-out block its output and its byte of the row: (row_bytes, 16)."""
    outputs, columns, begin = [], [], 0
    lane = np.arange(VECTOR_BYTES)
    for chunk in chunks:
        offsets = begin + np.cumsum([0, *(piece.size for piece in chunk)])
        for index, group in leaves(chunk):
            size = chunk[index].size
            outputs.append(group * (VECTOR_BYTES // size) + lane // size)
            columns.append(offsets[index] + lane % size)
        begin = int(offsets[-1])
    return np.array(outputs), np.array(columns)
