"""What each function, kernel and layer of a program costs: the rows behind `bicompile cost`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bicompile.artifact import Executable
from bicompile.cost import inorder, mca
from bicompile.cost.registers import Registers, check_registers
from bicompile.cost.trace import Block, Trace, collect, vector_instructions
from bicompile.errors import UserError

if TYPE_CHECKING:
    from bicompile.calls import KernelCall

MODELS: dict[str, Callable[[Trace], NDArray[np.int64]]] = {
    "cortex-a53": inorder.spent,
    "cortex-a72": lambda trace: mca.spent(trace, "cortex-a72"),
    "neoverse-n1": lambda trace: mca.spent(trace, "neoverse-n1"),
}
"""Modelled cycles of the blocks of a trace, by core; cortex-a55 is as cortex-a53."""

VECTOR_PIPES = {"cortex-a53": 1, "cortex-a72": 2, "neoverse-n1": 2}
"""Vector instructions that a core begins in a cycle at most."""


@dataclass(frozen=True)
class Row:
    """What a part of the program cost in one run: a function, a kernel or a layer.

    Attributes:
        name: of the symbol, kernel or layer.
        instructions: instructions executed; exact.
        vector_instructions: those that the ASIMD and floating-point unit executes; exact.
        vectors_loaded: vector registers that were loaded; exact.
        modelled_cycles: by core, a key of MODELS; modelled, never measured.
        registers: vector registers of its functions, the most that one of them names.
        spills: vector loads and stores to the stack in its functions' inner loops; see registers.
        units: of 128 binary multiply-accumulates; 0 where it computes no binary product.
        floor: vector instructions that those need at least, see calls.floor.
        kernels: those that ran for it, in their order.
        layers: those that it ran for, in their order.
    """

    name: str
    instructions: int
    vector_instructions: int
    vectors_loaded: int
    modelled_cycles: Mapping[str, int]
    registers: int
    spills: int
    units: int = 0
    floor: float = 0
    kernels: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def loads_a_unit(self) -> float | None:
        """Vectors loaded for every unit; None where there are none."""
        return self.vectors_loaded / self.units if self.units else None

    def over_floor(self, core: str) -> float | None:
        """Modelled cycles over the least that a core needs; None where there is no floor."""
        if not self.floor:
            return None
        return self.modelled_cycles[core] * VECTOR_PIPES[core] / self.floor


@dataclass(frozen=True, eq=False)
class Observed:
    """One run on the emulator.

    Attributes:
        entry: the symbol that calls the kernels.
        trace: what was executed.
        cycles: modelled cycles of the trace's blocks, by core.
        registers: of every function, by symbol.
    """

    entry: str
    trace: Trace
    cycles: Mapping[str, NDArray[np.int64]]
    registers: Mapping[str, Registers]

    def functions(self) -> list[Row]:
        """A row for every symbol that ran, the dearest first."""
        symbols = [block.symbol for block in self.trace.blocks]
        return self._rows(np.array(symbols)[self.trace.order])

    def kernels(self, calls: "Sequence[KernelCall]") -> list[Row]:
        """A row for every kernel with all that it calls, and one for the entry."""
        return self._rows_of_calls(calls, [call.kernel for call in calls])

    def layers(self, calls: "Sequence[KernelCall]") -> list[Row]:
        """A row for every layer, for every kernel that works for none, and for the entry."""
        return self._rows_of_calls(
            calls, [call.layer or call.node or call.kernel for call in calls]
        )

    def total(self, name: str, *, without_entry: bool = False) -> Row:
        """Everything, or everything but the entry, as one row."""
        symbols = np.array([block.symbol for block in self.trace.blocks])[self.trace.order]
        chosen = symbols != self.entry if without_entry else np.ones(len(symbols), bool)
        return self._row(name, chosen)

    def _rows_of_calls(self, calls: "Sequence[KernelCall]", names: Sequence[str]) -> list[Row]:
        owners = self._owners(calls)
        rows = []
        for row in self._rows(np.array([*names, self.entry])[owners]):
            own = [call for call, name in zip(calls, names, strict=True) if name == row.name]
            added = {
                "units": sum(call.units for call in own),
                "floor": sum(call.floor for call in own),
                "kernels": tuple(dict.fromkeys(call.kernel for call in own)),
                "layers": tuple(dict.fromkeys(call.layer for call in own if call.layer)),
            }
            rows.append(Row(**{**vars(row), **added}))
        return rows

    def _owners(self, calls: "Sequence[KernelCall]") -> NDArray[np.intp]:
        """The call that every block of the trace belongs to; −1 for those of the entry.

        Raises UserError where the program makes other calls.
        """
        symbols = np.array([block.symbol for block in self.trace.blocks])[self.trace.order]
        is_kernel = symbols != self.entry
        begins = is_kernel & ~np.concatenate([[False], is_kernel[:-1]])
        if symbols[begins].tolist() != [call.kernel for call in calls]:
            raise UserError(
                "the object makes other kernel calls than its report.json tells: "
                "compile the model again"
            )
        return np.where(is_kernel, np.cumsum(begins) - 1, -1)

    def _rows(self, names: NDArray[np.str_]) -> list[Row]:
        """A row for every name, which is given for every block of the trace."""
        rows = [self._row(str(name), names == name) for name in np.unique(names)]
        first = next(iter(self.cycles), None)

        def rank(row: Row) -> tuple[int, str]:
            cost = row.instructions if first is None else row.modelled_cycles[first]
            return -cost, row.name

        return sorted(rows, key=rank)

    def _row(self, name: str, chosen: NDArray[np.bool_]) -> Row:
        def counted(count: Callable[[Block], int]) -> int:
            return int(self.trace.of_blocks(count)[chosen].sum())

        ran = np.unique(self.trace.order[chosen]).tolist()
        symbols = {self.trace.blocks[block].symbol for block in ran}
        found = [self.registers[symbol] for symbol in symbols]
        return Row(
            name,
            counted(lambda block: len(block.instructions)),
            counted(vector_instructions),
            counted(lambda block: sum(i.vectors_loaded for i in block.instructions)),
            {core: int(spent[chosen].sum()) for core, spent in self.cycles.items()},
            max((registers.used for registers in found), default=0),
            sum(registers.spills for registers in found),
        )


def observe(
    executable: Executable, inputs: NDArray[np.float32], models: Sequence[str] = ("cortex-a53",)
) -> Observed:
    """Run once on the emulator for one input, float32 of executable.input.shape.

    Raises UserError for an unknown model, for one whose tool is not installed, and for what the
    emulator refuses.
    """
    check_cores(models)
    trace = collect(executable, inputs)
    cycles = {name: MODELS[name](trace) for name in models}
    return Observed(executable.entry, trace, cycles, check_registers(executable))


def measure(
    executable: Executable, inputs: NDArray[np.float32], models: Sequence[str] = ("cortex-a53",)
) -> list[Row]:
    """A row for every function that ran, the most modelled cycles of the first model first.

    Without models the most instructions come first. Raises what observe raises.
    """
    return observe(executable, inputs, models).functions()


def check_cores(names: Sequence[str]) -> None:
    """Raise UserError for a core without a model and for one whose tool is not installed."""
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise UserError(
            f"there is no cost model for {unknown[0]}: there are models for {', '.join(MODELS)}"
        )
    if any(name in mca.CPUS for name in names):
        mca.tool()


def available_cores(named: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The cores that are named, or without names all whose tool is installed; and why others miss.

    Raises what check_cores raises.
    """
    if named:
        check_cores(named)
        return list(named), []
    try:
        mca.tool()
    except UserError as missing:
        return ["cortex-a53"], [f"{' and '.join(mca.CPUS)} are not modelled: {missing}"]
    return list(MODELS), []


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
