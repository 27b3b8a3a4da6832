"""Schedules: from naive loop nests to kernels. `schedule` is the one way in."""

from collections.abc import Callable

from tvm import s_tir, tirx

from bicompile.schedules.fused import inlined
from bicompile.schedules.patches import copied_in_runs
from bicompile.schedules.popcount_gemm import tiled
from bicompile.schedules.threshold import packed_by_eight

KIND = "bicompile.kind"

Rule = Callable[[tirx.PrimFunc, str], s_tir.Schedule]

RULES: dict[str, Rule] = {
    "": inlined,
    "patches": copied_in_runs,
    "popcount_gemm": tiled,
    "threshold": packed_by_eight,
}
"""The rule for a nest by its kind; float kernels have none."""


def schedule(function: tirx.PrimFunc, arch: str) -> tirx.PrimFunc:
    """Schedule one kernel for an architecture ("aarch64" or "x86_64")."""
    rule = RULES[str(function.attrs.get(KIND, ""))]
    return rule(function, arch).mod["main"]
