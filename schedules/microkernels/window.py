"""Where the rows of a product lie in memory, and how a tile gathers them into registers.

A row of packed bits is a sequence of runs: one for a matrix product, one for every row of the
kernel for a convolution that reads its image, where pixels side by side are one run. A run is cut
into parts of 16, 8, 4, 2 and 1 bytes. All parts of a row, the largest first, lie one after the
other in the pieces that a tree sums (see weights): a part never straddles two pieces, since all
before it are multiples of its size. A part that is a piece is one load, others are loaded into
lanes. Weights are laid out in this order too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.choices import usual
from bicompile.schedules.microkernels.instructions import (
    Instruction,
    add_constant,
    load,
    load_by,
    load_first_lane,
    load_lane,
    load_pair,
    load_repeated,
    repeat_lane,
)
from bicompile.schedules.microkernels.weights import (
    BLOCK,
    PIECES_PER_CHUNK,
    VECTOR_BYTES,
    cut,
)

_MOST_APART = 1 << 24
"""Bytes that add_constant can move a pointer by."""


@dataclass(frozen=True)
class Window:
    """A kernel that slides over the lines of an image; distances are in bytes.

    Attributes:
        lines: rows of positions.
        positions: of a line.
        taps: kh, kw of the kernel.
        pixel: bytes of a tap.
        across: from one position to the next.
        down: from one line of positions to the next.
        tap_across: from one tap of the kernel to the next.
        tap_down: from one row of taps to the next.
        plane: from one plane of bits to the next.
    """

    lines: int
    positions: int
    taps: tuple[int, int]
    pixel: int
    across: int
    down: int
    tap_across: int
    tap_down: int
    plane: int

    @property
    def name(self) -> str:
        """All of it as letters and digits."""
        taps, steps = (
            "x".join(map(str, numbers))
            for numbers in (
                (*self.taps, self.pixel),
                (self.across, self.down, self.tap_across, self.tap_down, self.plane),
            )
        )
        return f"{taps}by{steps}"

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Where every run of a row begins and how long it is; runs that touch are one."""
        found: list[tuple[int, int]] = []
        for i, j in np.ndindex(*self.taps):
            begin = i * self.tap_down + j * self.tap_across
            if found and sum(found[-1]) == begin:
                found[-1] = (found[-1][0], found[-1][1] + self.pixel)
            else:
                found.append((begin, self.pixel))
        return tuple(found)

    def bytes_of_rows(self) -> NDArray[np.int64]:
        """Which bytes of the image a row has: (lines·positions, bytes of a row)."""
        first = np.arange(self.lines)[:, None] * self.down + np.arange(self.positions) * self.across
        row = np.concatenate([begin + np.arange(length) for begin, length in self.runs])
        whole: NDArray[np.int64] = first.reshape(-1, 1) + row
        return whole

    def fits(self) -> bool:
        """Whether there is a kernel: chunks of several runs are no loop, so they are few."""
        runs = self.runs
        vectors = sum(length for _, length in runs) // VECTOR_BYTES
        is_straight = len(runs) == 1 or usual(vectors, finished=False).unrolled
        farthest = max(self.plane, self.down, self.positions * self.across, self.tap_down)
        return bool(is_straight) and farthest < _MOST_APART

    def pays(self, outputs: int) -> bool:
        """Whether rows gathered from here cost no more instructions than rows laid out before.

        Rows of one chunk are gathered once, others for every block of outputs. To lay out a row
        is a load and a store for every part.
        """
        runs = self.runs
        one = ((0, sum(length for _, length in runs)),)
        times = 1 if len(chunks_of_parts(one)) == 1 else -(-outputs // BLOCK)
        return times * (_loads(runs) - _loads(one)) <= 2 * len(_parts(runs))


@dataclass(frozen=True)
class Part:
    """Bytes that are loaded at once.

    Attributes:
        size: 16, 8, 4, 2 or 1.
        begin: their distance from the row's first byte in memory.
        column: their place among the bytes of the row.
        piece: that of the chunk which they belong to.
        lane: their place in it, counted in bytes.
    """

    size: int
    begin: int
    column: int
    piece: int = 0
    lane: int = 0


def chunks_of_parts(runs: Sequence[tuple[int, int]]) -> list[list[Part]]:
    """The parts of every chunk that weights.cut makes, in the order of the row's pieces."""
    waiting = _parts(runs)
    chunks = []
    for chunk in cut(sum(length for _, length in runs)):
        found = []
        for index, piece in enumerate(chunk):
            lane = 0
            while lane < piece.size:
                part = waiting.pop(0)
                found.append(Part(part.size, part.begin, part.column, index, lane))
                lane += part.size
        chunks.append(found)
    return chunks


def columns(runs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The order of a row's bytes in the pieces."""
    return np.concatenate([part.column + np.arange(part.size) for part in _parts(runs)])


def _parts(runs: Sequence[tuple[int, int]]) -> list[Part]:
    starts = accumulate((length for _, length in runs), initial=0)
    parts = []
    for (begin, length), start in zip(runs, starts, strict=False):
        done = 0
        while done < length:
            left = min(length - done, VECTOR_BYTES)
            size = 1 << left.bit_length() - 1
            parts.append(Part(size, begin + done, start + done))
            done += size
    return sorted(parts, key=attrgetter("size"), reverse=True)


def _loads(runs: Sequence[tuple[int, int]]) -> int:
    """Instructions that gather a row."""
    count = at = 0
    for parts in chunks_of_parts(runs):
        program, at = gather(parts, [""] * PIECES_PER_CHUNK, "", at, ("by", step(runs)))
        count += len(program)
    return count


def step(runs: Sequence[tuple[int, int]]) -> int:
    """From the last part of a run to the first of the next; 0 where there is one run."""
    if len(runs) == 1:
        return 0
    (begin, length), (after, _) = runs[:2]
    last = min(length & -length, VECTOR_BYTES)
    return after - (begin + length - last)


def gather(
    parts: Sequence[Part], registers: Sequence[str], pointer: str, at: int, ahead: tuple[str, int]
) -> tuple[list[Instruction], int]:
    """Load a chunk, each piece into its register; `pointer` is `at` bytes after the row's begin.

    `ahead` is a register and the step that is in it. Also returns where the pointer is then.
    """
    program: list[Instruction] = []
    sizes = {part.piece: part.lane + part.size for part in parts}  # the last of a piece stays
    waiting = sorted(parts, key=attrgetter("begin"))
    loaded = dict.fromkeys(sizes, 0)
    while waiting:
        part = waiting.pop(0)
        size, piece, register = part.size, part.piece, registers[part.piece]
        program += add_constant(pointer, part.begin - at)
        at = part.begin + size
        follows = waiting[0].begin - part.begin if waiting else 0
        by = ahead[0] if follows == ahead[1] != size and follows else ""
        is_first = loaded[piece] == 0
        loaded[piece] += size
        if size == VECTOR_BYTES:
            if follows == VECTOR_BYTES == waiting[0].size:
                program.append(load_pair(register, registers[waiting.pop(0).piece], pointer))
                at += VECTOR_BYTES
            else:
                program.append(load_by(register, pointer, by) if by else load(register, pointer))
        elif size == sizes[piece]:
            program.append(load_repeated(register, pointer, size, by))
        elif is_first and part.lane == 0 and not by:
            program.append(load_first_lane(register, pointer, size))
        else:
            program.append(load_lane(register, pointer, size, part.lane // size, by))
        at = waiting[0].begin if by else at
        if loaded[piece] == sizes[piece] and size < sizes[piece] < VECTOR_BYTES:
            program.append(repeat_lane(register, sizes[piece]))
    return program, at
