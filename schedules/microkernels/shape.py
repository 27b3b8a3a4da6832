"""The shape of a product's kernel: what it computes and how."""

from dataclasses import dataclass

from bicompile.schedules.microkernels.choices import Choices, Tree, usual
from bicompile.schedules.microkernels.epilogue import Epilogue
from bicompile.schedules.microkernels.signs import Signs
from bicompile.schedules.microkernels.weights import VECTOR_BYTES
from bicompile.schedules.microkernels.window import Window

MOST_BYTES = 8191
"""Longest row: its bits, all different, still fit a sum of 16 bits."""


@dataclass(frozen=True)
class Shape:
    """What a kernel computes: (rows, row_bytes) bits, (outputs, row_bytes) → (rows, outputs).

    Attributes:
        rows: M.
        outputs: N.
        row_bytes: bytes of a row that count.
        stride: bytes from one row of activations to the next.
        bits: K, where results are K − 2·popcount as float32; None where they are int32 popcounts,
            and where an epilogue has the products of every result.
        epilogue: what follows; then outputs are whole vectors, and `rows` are those of results.
        choices: how it is computed; None for the usual.
        window: where rows lie in an image; None where they lie `stride` bytes apart.
        signs: where results are bits; then there is no epilogue.
    """

    rows: int
    outputs: int
    row_bytes: int
    stride: int
    bits: int | None = None
    epilogue: Epilogue | None = None
    choices: Choices | None = None
    window: Window | None = None
    signs: Signs | None = None

    @property
    def seen(self) -> Window:
        """Where rows lie: those of a matrix are a window of one tap, on one line."""
        rows = Window(
            lines=1,
            positions=self.rows,
            taps=(1, 1),
            pixel=self.row_bytes,
            across=self.stride,
            down=0,
            tap_across=0,
            tap_down=0,
            plane=self.rows * self.stride,
        )
        return self.window or rows

    @property
    def usual(self) -> Tree:
        """What is chosen where nobody chose."""
        return usual(self.row_bytes // VECTOR_BYTES, finished=self.epilogue is not None)

    @property
    def chosen(self) -> Choices:
        """How it is computed."""
        return self.choices or self.usual

    @property
    def tile_rows(self) -> int:
        """Rows of results of a tile."""
        rows = self.chosen.rows
        return rows if self.epilogue is None else rows // self.epilogue.planes

    @property
    def result_bytes(self) -> int:
        """Bytes of one row of results."""
        return 4 * self.outputs if self.signs is None else self.signs.result_bytes
