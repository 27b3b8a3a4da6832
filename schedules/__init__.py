"""Schedules: from naive loop nests to kernels. `schedule` is the one way in."""

from collections.abc import Callable

from tvm import s_tir, tirx

from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.patches import copied_in_runs
from bicompile.schedules.popcount_gemm import counted
from bicompile.schedules.threshold import packed_by_eight

KIND = "bicompile.kind"

Rule = Callable[[tirx.PrimFunc, str], s_tir.Schedule | Kernel]

RULES: dict[str, Rule] = {
    "": inlined,
    "patches": copied_in_runs,
    "popcount_gemm": counted,
    "threshold": packed_by_eight,
}
"""The rule for a nest by its kind; float kernels have none."""


def schedule(function: tirx.PrimFunc, arch: str) -> Kernel:
    """Schedule one kernel for an architecture ("aarch64" or "x86_64")."""
    rule = RULES[str(function.attrs.get(KIND, ""))]
    made = rule(function, arch)
    return made if isinstance(made, Kernel) else Kernel(made.mod["main"])
