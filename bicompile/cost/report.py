"""What each function of a compiled program costs: the rows behind `bicompile cost`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable
from bicompile.cost import inorder, mca
from bicompile.cost.trace import Trace, collect
from bicompile.errors import UserError

MODELS: dict[str, Callable[[Trace], Counter[str]]] = {
    "cortex-a53": inorder.cycles,
    "cortex-a72": lambda trace: mca.cycles(trace, "cortex-a72"),
    "neoverse-n1": lambda trace: mca.cycles(trace, "neoverse-n1"),
}
"""Modelled cycles by symbol, by the core that is modelled; cortex-a55 is as cortex-a53."""


@dataclass(frozen=True)
class Row:
    """One function of the program, with everything that belongs to it in one run.

    Attributes:
        symbol: its name in the object.
        instructions: instructions executed; exact.
        vector_instructions: those that the ASIMD and floating-point unit executes; exact.
        modelled_cycles: by core, a key of MODELS; modelled, never measured.
    """

    symbol: str
    instructions: int
    vector_instructions: int
    modelled_cycles: Mapping[str, int]


def measure(
    executable: Executable, inputs: NDArray[np.float32], models: Sequence[str] = ("cortex-a53",)
) -> list[Row]:
    """Run once on the emulator for one input, float32 of executable.input.shape.

    Gives a row for every function that ran, the most modelled cycles of the first model first
    (without models: the most instructions). Raises UserError for an unknown model, for one whose
    tool is not installed, and for what the emulator refuses.
    """
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        raise UserError(
            f"there is no cost model for {unknown[0]}: there are models for {', '.join(MODELS)}"
        )
    trace = collect(executable, inputs)
    cycles = {name: MODELS[name](trace) for name in models}
    executed, vector = trace.instructions, trace.vector_instructions
    rank = cycles[models[0]] if models else executed
    return [
        Row(
            symbol,
            executed[symbol],
            vector[symbol],
            {name: by_symbol[symbol] for name, by_symbol in cycles.items()},
        )
        for symbol in sorted(executed, key=lambda symbol: (-rank[symbol], symbol))
    ]


def sample_of(executable: Executable) -> NDArray[np.float32]:
    """An input to measure with, always the same: normal numbers, float32 of the input's shape."""
    generator = np.random.default_rng(0)
    return generator.standard_normal(executable.input.shape).astype(np.float32)


def model_source(name: str) -> str:
    """Where a model's figures come from, in words to print beside them.

    Raises UserError when its tool is not installed.
    """
    if name in mca.CPUS:
        _, version = mca.tool()
        return f"modelled by llvm-mca {version} for {name}"
    return f"modelled by the {inorder.NAME}"
