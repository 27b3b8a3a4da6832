"""Reading weights as signs with one scale for every output: W = σ_o·B, B ∈ {±1}.

σ_o is the middle of the largest and the smallest |w| of output o. A row of zeros, which a batch
norm with γ = 0 leaves, has σ_o = 0 and any signs.

Rounding: magnitudes count as one where each lies within 2^-21 of σ_o, relative. A straight-through
residue (q − c) + c that an exporter has computed in float32 leaves such noise: two roundings of up
to 2^-24·|q − c|, and |c| seldom exceeds a few σ. With σ_o·B instead of W a sum changes by no more
than 2^-21·Σ|a·w|, which is what eight float32 roundings may do to it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.passes.binary_sum import NotBinaryError

_TOLERANCE = 2.0**-21


class WeightsVaryError(NotBinaryError):
    """The magnitudes of some output differ; `distinct` is how many there are in one."""

    def __init__(self, distinct: int) -> None:
        """Say how many."""
        super().__init__(
            f"its weights are real: {distinct} distinct magnitudes per output, one is needed"
        )
        self.distinct = distinct


@dataclass(frozen=True)
class BinaryWeights:
    """W = scale[o]·signs[o, …].

    Attributes:
        signs: ±1, float32, in the shape of the weights, outputs first.
        scale: (O,) float64.
    """

    signs: NDArray[np.float32]
    scale: NDArray[np.float64]

    @property
    def real(self) -> NDArray[np.float64]:
        """W itself."""
        trailing = (1,) * (self.signs.ndim - 1)
        return self.signs * self.scale.reshape(-1, *trailing)


def read_binary_weights(weights: np.ndarray) -> BinaryWeights:
    """Take (O, …) float32 weights apart; raises NotBinaryError with the values found."""
    if weights.dtype != np.float32:
        raise NotBinaryError(f"its weights are {weights.dtype}, float32 is needed")
    if not weights.size:
        raise NotBinaryError("it has no weights")
    if not np.isfinite(weights).all():
        raise NotBinaryError("some of its weights are not finite")
    rows = np.abs(weights.reshape(len(weights), -1).astype(np.float64))
    largest, smallest = rows.max(axis=1), rows.min(axis=1)
    holes = (smallest == 0) & (largest > 0)
    scale = (largest + smallest) / 2
    varies = largest - scale > _TOLERANCE * scale
    if (varies & ~holes).any():
        raise WeightsVaryError(max(np.unique(row).size for row in rows[varies]))
    if holes.any():
        row = rows[holes][0]
        if np.unique(row).size > 2:
            raise WeightsVaryError(np.unique(row).size)
        raise NotBinaryError(
            f"its weights are ±{row.max():g} and 0 in {holes.sum()} of its outputs; "
            "a zero has no bit"
        )
    signs = np.where(weights > 0, np.float32(1), np.float32(-1))
    return BinaryWeights(signs, scale)
