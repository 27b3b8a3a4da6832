"""Modelled cycles of cortex-a72 and neoverse-n1 by llvm-mca over the dynamic trace.

The trace is cut into windows of about 512 instructions, at ends of blocks and wherever the function
changes. A window costs T(context, window) − T(context): llvm-mca's total cycles for straight code,
where the context is the 128 instructions or so that ran before. So what overlaps with the window
before is not counted twice, and filling and draining the pipeline cancel but for a few cycles.
Windows that occur again are worked out once; on a network that leaves less than a third.

llvm-mca assumes cache hits, predicted branches and no dependence through memory. Its
cortex-a72 model charges insertions of one vector element too much.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bicompile.cost.trace import Trace
from bicompile.errors import UserError

CPUS = ("cortex-a72", "neoverse-n1")

_WINDOW, _CONTEXT = 512, 128
_OLDEST = 17  # LLVM before it had no model of neoverse-n1 and took that of another core
_NAMES = ("llvm-mca-19", "llvm-mca", *(f"llvm-mca-{n}" for n in (22, 21, 20, 18, 17)))

Window = tuple[int, ...]
"""Blocks of a trace, by index, in the order they ran."""


@cache
def tool() -> tuple[str, str]:
    """The llvm-mca that is used, and its LLVM version.

    Raises UserError when none is installed that is new enough and knows aarch64.
    """
    found = []
    for name in _NAMES:
        path = shutil.which(name)
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"LLVM version (\d+)[.\d]*", told.stdout)
        if version and int(version[1]) >= _OLDEST and "aarch64" in told.stdout:
            return path, version[0].removeprefix("LLVM version ")
        found.append(name)
    state = f"{found[0]} is too old or lacks aarch64" if found else "llvm-mca is not installed"
    raise UserError(f"{state}: apt-get install llvm-19")


def cycles(trace: Trace, cpu: str) -> Counter[str]:
    """Modelled cycles by symbol for one of CPUS; their sum is the modelled time of the run.

    Raises UserError when llvm-mca is not installed or does not take the code.
    """
    return trace.by_symbol(spent(trace, cpu))


def spent(trace: Trace, cpu: str) -> NDArray[np.int64]:
    """Modelled cycles of every window at its first block, in the order they ran; 0 elsewhere."""
    windows = list(_windows(trace))
    regions = {context + window for context, window in windows}
    regions |= {context for context, _ in windows if context}
    times = _simulate(trace, sorted(regions), cpu)
    passed_in = np.zeros(len(trace.order), np.int64)
    position = 0
    for context, window in windows:
        passed_in[position] = times[context + window] - (times[context] if context else 0)
        position += len(window)
    return passed_in


def _windows(trace: Trace) -> Iterable[tuple[Window, Window]]:
    """Every window of the trace after its context, in order."""
    order = trace.order.tolist()
    sizes = [len(block.instructions) for block in trace.blocks]
    symbols = [block.symbol for block in trace.blocks]
    start = 0
    while start < len(order):
        end, size = start, 0
        while end < len(order) and size < _WINDOW and symbols[order[end]] == symbols[order[start]]:
            size += sizes[order[end]]
            end += 1
        first, size = start, 0
        while first > 0 and size < _CONTEXT:
            first -= 1
            size += sizes[order[first]]
        yield tuple(order[first:start]), tuple(order[start:end])
        start = end


def _simulate(trace: Trace, regions: list[Window], cpu: str) -> dict[Window, int]:
    """llvm-mca's total cycles of every region, each run once from an empty pipeline."""
    texts = [
        "\n".join(_straight(i.text) for i in block.instructions) + "\n" for block in trace.blocks
    ]
    source = "".join(
        f"# LLVM-MCA-BEGIN {number}\n{''.join(texts[block] for block in region)}# LLVM-MCA-END\n"
        for number, region in enumerate(regions)
    )
    options = ["-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=1"]
    views = ["-instruction-info=0", "-resource-pressure=0"]
    path, _ = tool()
    done = subprocess.run(
        [path, *options, *views, "-"], input=source, capture_output=True, text=True, check=False
    )
    found = re.findall(r"Code Region - (\d+)$.*?^Total Cycles: +(\d+)$", done.stdout, re.M | re.S)
    if done.returncode != 0 or len(found) != len(regions):
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise UserError(
            f"llvm-mca for {cpu} does not take the code ({(lines or ['no message'])[0]}): "
            "leave this model out"
        )
    return {regions[int(number)]: int(total) for number, total in found}


def _straight(text: str) -> str:
    """An instruction without its call, for which llvm-mca would charge 100 cycles."""
    return re.sub(r"^bl(r?)\b", r"b\1", text)
