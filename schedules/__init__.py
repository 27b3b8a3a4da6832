"""Schedules: from naive loop nests to kernels. `schedule` is the one way in."""

from collections.abc import Callable

from tvm import s_tir, tirx

from bicompile.schedules.patches import copied_in_runs
from bicompile.schedules.popcount_gemm import tiled
from bicompile.schedules.threshold import packed_by_eight

KIND = "bicompile.kind"

Rule = Callable[[tirx.PrimFunc, str], s_tir.Schedule]

RULES: dict[str, Rule] = {
    "patches": copied_in_runs,
    "popcount_gemm": tiled,
    "threshold": packed_by_eight,
}
"""The rule for a nest by its kind. Nests without a kind are LLVM's to vectorize."""


def schedule(function: tirx.PrimFunc, arch: str) -> tirx.PrimFunc:
    """Schedule one kernel for an architecture ("aarch64" or "x86_64")."""
    rule = RULES.get(str(function.attrs.get(KIND, "")))
    return function if rule is None else rule(function, arch).mod["main"]
