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
_NEAR = 3
"""Floats on either side of s ± 1 that are tried; beyond |s| = 2²⁴ more would be needed."""

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

    Without `greater` the comparisons are ≤. None where a threshold is infinite, NaN or too large.
    """
    if not np.isfinite(s).all():
        return None
    above, below = (_reached(s, side, greater) for side in (_ONE, -_ONE))
    return None if np.isnan(above + below).any() else (above, below)


def _reached(s: Floats, sign: np.float32, greater: bool) -> Floats:
    """The least x (without `greater` the largest) with fl(x − sign) ≥ s (≤ s); else NaN."""
    away = np.float32(np.inf if greater else -np.inf)
    x = s + sign
    for _ in range(_NEAR):
        x = np.nextafter(x, -away)
    reached = np.full_like(s, np.nan)
    was_reached = _holds(x - sign, s, greater)
    for _ in range(2 * _NEAR):
        x = np.nextafter(x, away)
        holds = _holds(x - sign, s, greater)
        reached = np.where(holds & ~was_reached, x, reached)
        was_reached = holds
    return reached


def _holds(rest: Floats, s: Floats, greater: bool) -> NDArray[np.bool_]:
    return rest >= s if greater else rest <= s


def _middle(of: Floats, towards: float) -> NDArray[np.float64]:
    neighbour = np.nextafter(of, np.float32(towards)).astype(np.float64)
    middle: NDArray[np.float64] = (of.astype(np.float64) + neighbour) / 2
    return middle
