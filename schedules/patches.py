"""Patches: framing and copying bits in whole runs of bytes.

With dilation 1 the pixels of one kernel row lie side by side in the image as they do in the patch,
so a kernel row is one copy of kw·B bytes.
"""

from tvm import s_tir, tirx

_LONGEST_RUN = 64
"""Bytes; a longer run stays a loop, which LLVM vectorizes by itself."""


def copied_in_runs(function: tirx.PrimFunc, _arch: str) -> s_tir.Schedule:
    """Vectorize the bytes of a kernel row, of an image row and of a row's clear end."""
    schedule = s_tir.Schedule(function)
    vectorize_runs(schedule)
    return schedule


def vectorize_runs(schedule: s_tir.Schedule) -> None:
    """The same in a nest that goes on after the patches."""
    copy = schedule.get_sblock("copy", func_name="main")
    *_, column, byte = schedule.get_loops(copy)
    runs = [schedule.fuse(column, byte)]
    for name in ("clear_frame", "fill_frame", "clear_end"):
        runs.append(schedule.get_loops(schedule.get_sblock(name, func_name="main"))[-1])
    for run in runs:
        if 1 < int(schedule.get(run).extent) <= _LONGEST_RUN:
            schedule.vectorize(run)
