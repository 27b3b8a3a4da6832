"""What a schedule may decide, as annotations of a nest's block.

A rule reads the decisions from the nest that it is given; a nest that has none gets the defaults.
Tuning samples them, so a tuned schedule and a default one are made by the same code. No decision
changes what a kernel computes. docs/tuning.md says what each of them means.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from bicompile.dual_workloads import PLANES
from bicompile.schedules import microkernels
from bicompile.schedules.microkernels import Interleaved, Tree
from bicompile.workloads import KIND, USED_BYTES

TUNABLE = (
    "popcount_gemm",
    "popcount_epilogue",
    "popcount_threshold",
    "popcount_conv",
    "grouped_popcount_gemm",
)
"""Kinds of nests that have decisions."""

_BLOCK = "count"
_PREFIX = "bicompile"
_TILES = ((4, 2), (2, 4), (4, 1), (1, 4), (2, 2), (2, 1), (1, 2), (1, 1))
_SIDES = (1, 2, 4, 8)
_ORDERS = tuple(range(64))
_LOAD_LATENCIES = (4, 2, 8, 12)
_VECTOR_LATENCIES = (4, 2, 3, 6)
"""The first of both is that of an in-order core."""
_MOST_UNROLLED = 32
"""Vectors of a row; one block of outputs is then about 12 kilobytes of code."""


@dataclass(frozen=True)
class Tile:
    """A tile of results as a tensor intrinsic.

    Attributes:
        rows: of results; divides those of the nest.
        outputs: divides those of the nest.
    """

    rows: int
    outputs: int


Decisions = Tree | Interleaved | Tile
"""What is decided of a nest: a microkernel of pairwise adds or of lanes for outputs, or a tile."""

_KERNELS: Mapping[str, type[Tree] | type[Interleaved] | type[Tile]] = {
    "tree": Tree,
    "interleaved": Interleaved,
    "tile": Tile,
}


def spaces(function: tirx.PrimFunc, arch: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """The values that decisions may take, by kernel ("tree", "interleaved", "tile") and name.

    The first kernel, and the first value of each decision, are the defaults. Empty for a nest of a
    kind that has no decisions.
    """
    kind = str(function.attrs.get(KIND, ""))
    if kind not in TUNABLE:
        return {}
    found = {}
    m, n = _sides(function)
    if arch == "aarch64" and kind != "grouped_popcount_gemm":
        used = int(function.attrs[USED_BYTES])
        if used <= microkernels.MOST_BYTES:
            planes = int(function.attrs.get(PLANES, 1))
            is_finished = PLANES in function.attrs
            is_loop = kind != "popcount_conv"  # runs of an image are no equal chunks
            found["tree"] = _of_tree(used, planes, is_finished=is_finished, is_loop=is_loop)
            found["interleaved"] = _of_interleaved(n)
    found["tile"] = _of_tile(m, n)
    return found


def _of_tree(
    used: int, planes: int, *, is_finished: bool, is_loop: bool
) -> dict[str, tuple[int, ...]]:
    vectors = used // microkernels.VECTOR_BYTES
    first = dataclasses.asdict(microkernels.usual(vectors, finished=is_finished))
    has_loop = is_loop and microkernels.VECTORS_PER_CHUNK < vectors <= _MOST_UNROLLED
    options = {
        "rows": (1, 2) if planes == 1 else (),
        "unrolled": (0, 1) if has_loop else (),
        "weight_pairs": (1, 2) if is_finished else (1, 2, 3),
        "load_latency": _LOAD_LATENCIES,
        "vector_latency": _VECTOR_LATENCIES,
        "overlap": (0, 1),
        "order": _ORDERS,
    }
    return {
        name: (value, *(other for other in options[name] if other != value))
        for name, value in first.items()
    }


def _of_interleaved(n: int) -> dict[str, tuple[int, ...]]:
    block = microkernels.BLOCK
    return {
        "outputs": (2 * block, block) if n > block else (block,),
        "load_latency": _LOAD_LATENCIES,
        "vector_latency": _VECTOR_LATENCIES,
        "order": _ORDERS,
    }


def _of_tile(m: int, n: int) -> dict[str, tuple[int, ...]]:
    rows, outputs = next((mi, ni) for mi, ni in _TILES if m % mi == 0 and n % ni == 0)
    return {
        "rows": (rows, *(side for side in _SIDES if side != rows and m % side == 0)),
        "outputs": (outputs, *(side for side in _SIDES if side != outputs and n % side == 0)),
    }


def _sides(function: tirx.PrimFunc) -> tuple[int, int]:
    """The rows and outputs of a nest, for every group."""
    schedule = s_tir.Schedule(function)
    i, j, _ = schedule.get_loops(schedule.get_sblock(_BLOCK, func_name="main"))[-3:]
    return int(schedule.get(i).extent), int(schedule.get(j).extent)


def annotate(function: tirx.PrimFunc, arch: str, *, tunable: bool) -> list[s_tir.Schedule]:
    """The nest with its decisions written down, for every kernel that it can become.

    They are the defaults, or with `tunable` sampled: then they are in the schedule's trace.
    """
    schedules = []
    for kernel, decisions in spaces(function, arch).items():
        schedule = s_tir.Schedule(function)
        block = schedule.get_sblock(_BLOCK, func_name="main")
        for name, values in decisions.items():
            chosen: Any = values[0]
            if tunable:
                chosen = schedule.sample_categorical(list(values), [1 / len(values)] * len(values))
            schedule.annotate(block, f"{_PREFIX}.{kernel}.{name}", chosen)
        schedules.append(schedule)
    return schedules


def decide(function: tirx.PrimFunc, decisions: Decisions) -> tirx.PrimFunc:
    """The nest with these decisions written down."""
    kernel = next(name for name, kind in _KERNELS.items() if isinstance(decisions, kind))
    schedule = s_tir.Schedule(function)
    block = schedule.get_sblock(_BLOCK, func_name="main")
    for name, value in dataclasses.asdict(decisions).items():
        schedule.annotate(block, f"{_PREFIX}.{kernel}.{name}", value)
    return schedule.mod["main"]


def decided(function: tirx.PrimFunc, arch: str) -> tuple[tirx.PrimFunc, Decisions]:
    """The nest without its decisions, and what they are: the defaults where it has none.

    Raises ValueError for decisions that this nest cannot take.
    """
    schedule = s_tir.Schedule(function)
    block = schedule.get_sblock(_BLOCK, func_name="main")
    written = {}
    for key, value in schedule.get(block).annotations.items():
        prefix, _, rest = str(key).partition(".")
        if prefix == _PREFIX:
            schedule.unannotate(block, str(key))
            kernel, _, name = rest.partition(".")
            written[kernel, name] = int(value)
    bare = schedule.mod["main"] if written else function
    allowed = spaces(bare, arch)
    if not written:
        kernel, values = next(iter(allowed.items()))
        return bare, _KERNELS[kernel](**{name: options[0] for name, options in values.items()})
    kernel = next(iter(written))[0]
    values = allowed.get(kernel, {})
    taken = {name: value for (_, name), value in written.items()}
    if taken.keys() != values.keys() or any(taken[n] not in values[n] for n in taken):
        raise ValueError(f"the decisions {kernel} {taken} are none of this kernel's: {allowed}")
    return bare, _KERNELS[kernel](**taken)


def to_json(decisions: Decisions) -> dict[str, Any]:
    """Decisions as a manifest has them."""
    kernel = next(name for name, kind in _KERNELS.items() if isinstance(decisions, kind))
    return {"kernel": kernel, **dataclasses.asdict(decisions)}


def from_json(fields: Mapping[str, Any]) -> Decisions:
    """Decisions from a manifest; raises KeyError, TypeError or ValueError where they are none."""
    numbers = {name: int(value) for name, value in fields.items() if name != "kernel"}
    return _KERNELS[fields["kernel"]](**numbers)
