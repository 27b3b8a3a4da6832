"""Convolutions that read their image, beside the same on patches: what a whole layer costs.

    python tests/benchmarks/convolutions.py [CORE ...]

Instructions and modelled cycles for a unit of 128 binary multiply-accumulates, of frame or patches
and the product, float32 results, without the entry that calls them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernel_runs import built
from tvm import tirx

from bicompile.cost.report import observe
from bicompile.dual_workloads import Steps, popcount_epilogue
from bicompile.schedules.popcount_conv import reads_image
from bicompile.workloads import patches

# Channels, kernel, outputs; an image of 8x8 positions, stride 1, padded to its own size.
LAYERS = [(16, 5, 32), (8, 5, 16), (8, 3, 16), (32, 3, 32), (64, 3, 64), (64, 3, 256), (32, 5, 64)]
SIDE = 8


def costs(
    cases: Sequence[tuple[tirx.PrimFunc, Sequence[np.ndarray]]], cores: Sequence[str]
) -> list[float]:
    """Instructions, then cycles on every core, of kernels that run one after the other."""
    with built(cases) as (executable, _, _):
        run = observe(executable, np.zeros(4, np.float32), cores)
        total = run.total("all", without_entry=True)
    return [total.instructions, *(total.modelled_cycles[core] for core in cores)]


def compared(
    channels: int, kernel: int, outputs: int, cores: Sequence[str]
) -> tuple[bool, list[float], list[float]]:
    """Whether the image is read, and the costs for a unit on patches and on the image."""
    pixel, rows = channels // 8, SIDE * SIDE
    used = kernel * kernel * pixel
    row_bytes = -(-used // 16) * 16
    laid_out = patches(
        (1, SIDE, SIDE, pixel),
        (kernel, kernel),
        (SIDE, SIDE),
        strides=(1, 1),
        pads=(kernel // 2,) * 4,
        dilations=(1, 1),
        row_bytes=row_bytes,
    )
    on_patches, on_image = (
        popcount_epilogue(
            rows,
            outputs,
            row_bytes,
            used_bytes=used,
            planes=1,
            products=8 * used,
            steps=Steps(),
            patches=nest,
        )
        for nest in (None, laid_out)
    )
    bits = np.zeros((SIDE, SIDE * pixel), np.uint8)
    weights = np.zeros((outputs, row_bytes), np.uint8)
    seen = np.zeros((rows, row_bytes), np.uint8)
    before = costs([(laid_out, [bits]), (on_patches, [seen, weights])], cores)
    after = costs([(on_image, [bits, weights])], cores)
    units = rows * outputs * -(-8 * used // 128)
    each = [[cost / units for cost in found] for found in (before, after)]
    return reads_image(laid_out, outputs), each[0], each[1]


if __name__ == "__main__":
    cores = sys.argv[1:] or ["cortex-a53"]
    print(f"{'channels, kernel, outputs':26} {'':8} instructions  " + "  ".join(cores))
    for layer in LAYERS:
        reads, *found = compared(*layer, cores)
        for what, numbers in zip(("patches", "image"), found, strict=True):
            chosen = " *" if (what == "image") == reads else ""
            figures = "".join(f"{number:12.2f}" for number in numbers)
            print(f"{', '.join(map(str, layer)):26} {what:8} {figures}{chosen}", flush=True)
