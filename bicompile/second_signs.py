"""The second sign of a dual-scale binarizer, read from x itself.

With b₁ = ±1, the rest x − b₁ is rounded, and so is no float that a kernel may skip: whether it
reaches a threshold s must be decided as if it had been computed. But x ↦ fl(x − 1) is monotone, so
fl(x − 1) ≥ s is x ≥ t₊ for one float t₊, and fl(x + 1) ≥ s is x ≥ t₋. Both are next to s ± 1. For
small s, as thresholds of normalized numbers are, there is a float s′ next to s with fl(s′ + 1) = t₊
and fl(s′ − 1) = t₋; around 1, where x + 1 is rounded more coarsely than x, often there is none.
"""

import numpy as np
from numpy.typing import NDArray

_ONE = np.float32(1)
_INFINITY = int(np.float32(np.inf).view(np.uint32))

Floats = NDArray[np.float32]


def moved(s: Floats, *, greater: bool) -> Floats | None:
    """(C,) thresholds s → (C,) s′ with x ≥ fl(s′ ± 1) exactly where fl(x ∓ 1) ≥ s.

    Without `greater` the comparisons are ≤. None where some threshold has no such s′.
    """
    both = sides(s, greater=greater)
    if both is None:
        return None
    above, below = both
    # What rounds to a float lies between the middles of it and its neighbours.
    low = np.maximum(_middle(above, -np.inf) - 1, _middle(below, -np.inf) + 1)
    high = np.minimum(_middle(above, np.inf) - 1, _middle(below, np.inf) + 1)
    found = s.copy()
    for candidate in (low, (low + high) / 2, high, s):
        tried = candidate.astype(np.float32)
        fits = (tried + _ONE == above) & (tried - _ONE == below)
        found = np.where(fits, tried, found)
    right = (found + _ONE == above) & (found - _ONE == below)
    return found if right.all() else None


def sides(s: Floats, *, greater: bool) -> tuple[Floats, Floats] | None:
    """(C,) thresholds s → t₊ and t₋: x ≥ t± exactly where fl(x ∓ 1) ≥ s.

    Without `greater` the comparisons are ≤. None where a threshold is infinite or NaN.
    """
    if not np.isfinite(s).all():
        return None
    if not greater:  # fl(x ∓ 1) ≤ s is fl(−x ± 1) ≥ −s
        return -_reached(-s, -_ONE), -_reached(-s, _ONE)
    return _reached(s, _ONE), _reached(s, -_ONE)


def _reached(s: Floats, sign: np.float32) -> Floats:
    """The least x with fl(x − sign) ≥ s, by halving all floats; 0 for −0."""
    below, at = (np.full(s.shape, end, np.int64) for end in (-_INFINITY, _INFINITY))
    while (at - below > 1).any():
        middle = (below + at) // 2
        holds = _float_at(middle) - sign >= s
        below, at = np.where(holds, below, middle), np.where(holds, middle, at)
    return _float_at(at)


def _float_at(place: NDArray[np.int64]) -> Floats:
    """Floats in their order: 0 is the 0th, and an infinity the last on either side."""
    found: Floats = np.copysign(np.abs(place).astype(np.uint32).view(np.float32), place)
    return found.astype(np.float32)


def _middle(of: Floats, towards: float) -> NDArray[np.float64]:
    neighbour = np.nextafter(of, np.float32(towards)).astype(np.float64)
    middle: NDArray[np.float64] = (of.astype(np.float64) + neighbour) / 2
    return middle
