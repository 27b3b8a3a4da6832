"""Schedules: from naive loop nests to kernels. `schedule` is the one way in."""

from collections.abc import Callable

from tvm import s_tir, tirx

from bicompile.schedules.depthwise import summed_in_lanes
from bicompile.schedules.dual_depthwise import convolved
from bicompile.schedules.dual_scale import binarized
from bicompile.schedules.float_layer import convolved as convolved_in_floats
from bicompile.schedules.float_layer import framed, multiplied
from bicompile.schedules.fused import inlined
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.one_channel import heard
from bicompile.schedules.patches import copied_in_runs
from bicompile.schedules.popcount_conv import convolved as convolved_in_bits
from bicompile.schedules.popcount_epilogue import finished
from bicompile.schedules.popcount_gemm import counted, tiled
from bicompile.schedules.popcount_threshold import signed
from bicompile.schedules.spread import spread_out
from bicompile.schedules.threshold import packed_by_bytes

KIND = "bicompile.kind"

Rule = Callable[[tirx.PrimFunc, str], s_tir.Schedule | Kernel]

RULES: dict[str, Rule] = {
    "": inlined,
    "depthwise": summed_in_lanes,
    "dual_depthwise": convolved,
    "dual_scale": binarized,
    "float_depthwise": convolved_in_floats,
    "float_layer": multiplied,
    "frame": framed,
    "grouped_popcount_gemm": tiled,
    "one_channel": heard,
    "patches": copied_in_runs,
    "popcount_conv": convolved_in_bits,
    "popcount_epilogue": finished,
    "popcount_gemm": counted,
    "popcount_threshold": signed,
    "spread": spread_out,
    "threshold": packed_by_bytes,
}
"""The rule for a nest by its kind; float kernels have none."""


def schedule(function: tirx.PrimFunc, arch: str) -> Kernel:
    """Schedule one kernel for an architecture ("aarch64" or "x86_64")."""
    rule = RULES[str(function.attrs.get(KIND, ""))]
    made = rule(function, arch)
    return made if isinstance(made, Kernel) else Kernel(made.mod["main"])
