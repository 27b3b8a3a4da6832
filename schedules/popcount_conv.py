"""A binary convolution that reads its image as it is: frame, products and what follows, one kernel.

On aarch64 a zero frame is copied around the image where there is padding, and a microkernel gathers
what a position sees straight into registers, see microkernels.window: no patches lie in memory.
Elsewhere patches are laid out and the counts tiled, as in popcount_gemm.
"""

from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir, tirx

from bicompile.dual_workloads import PLANES
from bicompile.schedules import microkernels, popcount_threshold
from bicompile.schedules.called import call_with, with_steps
from bicompile.schedules.decisions import Tile, decided
from bicompile.schedules.fused import vectorize
from bicompile.schedules.kernel import Kernel
from bicompile.schedules.patches import vectorize_runs
from bicompile.schedules.popcount_epilogue import called
from bicompile.schedules.popcount_gemm import tiled
from bicompile.schedules.popcount_threshold import pack_limits
from bicompile.sign_workloads import LIMITS
from bicompile.workloads import IMAGE, KERNEL, OUTPUT, USED_BYTES, WINDOW


def convolved(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel, or lay out patches and tile, as is decided."""
    bare, decisions = decided(function, arch)
    if isinstance(decisions, Tile):
        schedule = tiled(function, arch)
        vectorize_runs(schedule)
        if PLANES in function.attrs:
            vectorize(schedule, schedule.get_sblock("epilogue", func_name="main"))
        if LIMITS in function.attrs:
            pack_limits(schedule)
        return schedule
    return _called(bare, decisions)


def reads_image(patches: tirx.PrimFunc, outputs: int) -> bool:
    """Whether a convolution that could lay out these patches is to read its image instead."""
    window = _image(patches).window
    return window.fits() and window.pays(outputs)


@dataclass(frozen=True)
class _Image:
    """What a microkernel reads.

    Attributes:
        frame: the buffer around which the image is copied; None where there is no padding.
        window: that slides over the frame, or over the image.
    """

    frame: Any
    window: microkernels.Window


def _image(nest: tirx.PrimFunc) -> _Image:
    """Of a nest that begins with patches."""
    (frame,) = (each for each in nest.body.block.alloc_buffers if each.name == "frame")
    _, height, width, pixel = (int(number) for number in nest.attrs[IMAGE])
    _, frame_height, frame_bytes = (int(dim) for dim in frame.ty.shape)
    down, across, top, left, apart_down, apart = (int(number) for number in nest.attrs[WINDOW])
    lines, positions = (int(size) for size in nest.attrs[OUTPUT])
    kh, kw = (int(size) for size in nest.attrs[KERNEL])
    line = width * pixel
    framed = bool(top or left or frame_height > height or frame_bytes > line)
    if framed:
        height, line = frame_height, frame_bytes
    if down * line == positions * across * pixel:  # all positions lie equally far apart
        lines, positions = 1, lines * positions
    window = microkernels.Window(
        lines=lines,
        positions=positions,
        taps=(kh, kw),
        pixel=pixel,
        across=across * pixel,
        down=down * line,
        tap_across=apart * pixel,
        tap_down=apart_down * line,
        plane=height * line,
    )
    return _Image(frame if framed else None, window)


def _called(function: tirx.PrimFunc, choices: microkernels.Choices) -> Kernel:
    schedule = s_tir.Schedule(function)
    vectorize_runs(schedule)
    scheduled = schedule.mod["main"]
    image = _image(scheduled)
    first = scheduled.params[0] if image.frame is None else image.frame
    if PLANES in scheduled.attrs:
        made = called(scheduled, choices, 0, first, image.window)
    elif LIMITS in scheduled.attrs:
        made = popcount_threshold.called(scheduled, choices, 0, first, image.window)
    else:
        made = _counted(scheduled, choices, first, image.window)
    if image.frame is None:
        return made
    clear, fill, *_ = scheduled.body.block.body
    steps = [clear, fill, made.function.body.block.body]
    return replace(made, function=with_steps(scheduled, steps, [image.frame]))


def _counted(
    function: tirx.PrimFunc, choices: microkernels.Choices, first: Any, window: microkernels.Window
) -> Kernel:
    """Integer counts: a call of a microkernel for every image."""
    _, weights, result = function.params
    n, row_bytes = (int(dim) for dim in weights.ty.shape)
    images = int(function.attrs[IMAGE][0])
    m, used = int(result.ty.shape[0]) // images, int(function.attrs[USED_BYTES])
    kernel = microkernels.popcount_gemm(
        microkernels.Shape(m, n, used, 0, choices=choices, window=window)
    )
    calls = [
        call_with(
            kernel.name,
            first.access_ptr("r", offset=index * window.plane),
            weights.access_ptr("r"),
            result.access_ptr("w", offset=index * m * n),
        )
        for index in range(images)
    ]
    return Kernel(
        with_steps(function, calls),
        {kernel.name: kernel.assembly},
        {1: lambda constant: kernel.lay_out(constant.reshape(n, row_bytes))},
    )
