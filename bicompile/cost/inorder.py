"""Modelled cycles of a dual-issue in-order core of the Cortex-A53 and A55 class.

Instructions issue in the order of the trace, two slots a cycle; in one cycle at most one ASIMD or
floating-point instruction, one load or store, one branch and two integer instructions. Each waits
for the registers it reads and for its unit; `decode` has the latencies. Caches hit, branches are
predicted, results may come back in any order.

How long a block takes depends only on what is still under way when it starts, so that every block
is worked out once for each such state: exact, and most blocks of a loop cost one look-up.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.cost.decode import Instruction, Unit
from bicompile.cost.trace import Trace

NAME = "in-order model of cortex-a53 and cortex-a55"

_SLOTS = 2
_WIDTH: dict[Unit, int] = {"vector": 1, "memory": 1, "branch": 1, "integer": 2}


@dataclass(frozen=True)
class State:
    """What is under way in the cycle of the last issue; cycles count from that one.

    Attributes:
        issued: the units of the instructions issued in this cycle.
        memory_free: when the load/store unit is free again.
        ready: registers that cannot be read yet, with the cycle in which they can, by number.
    """

    issued: tuple[Unit, ...] = ()
    memory_free: int = 0
    ready: tuple[tuple[int, int], ...] = ()


# Nothing is under way and the cycle is full, so that the first instruction takes the next one.
_START = State(issued=("integer", "integer"))


def step(state: State, instructions: tuple[Instruction, ...]) -> tuple[int, State]:
    """Issue instructions from a state: the modelled cycles that pass, and the state after."""
    now, issued, memory_free = 0, list(state.issued), state.memory_free
    ready = dict(state.ready)
    for instruction in instructions:
        unit = instruction.unit
        at = max([now, *(ready.get(register, 0) for register in instruction.reads)])
        if unit == "memory":
            at = max(at, memory_free)
        if at == now and (len(issued) == _SLOTS or issued.count(unit) == _WIDTH[unit]):
            at += 1
        if at > now:
            now, issued = at, []
        issued.append(unit)
        if unit == "memory":
            memory_free = now + instruction.hold
        for register, latency in instruction.writes:
            ready[register] = now + latency
    left = sorted((register, at - now) for register, at in ready.items() if at > now)
    return now, State(tuple(sorted(issued)), max(memory_free - now, 0), tuple(left))


def cycles(trace: Trace) -> Counter[str]:
    """Modelled cycles by symbol; their sum is the modelled time of the run."""
    return trace.by_symbol(spent(trace))


def spent(trace: Trace) -> NDArray[np.int64]:
    """Modelled cycles of every block, in the order they ran."""
    states, numbers = [_START], {_START: 0}
    known: dict[int, tuple[int, int]] = {}
    passed_in = np.empty(len(trace.order), np.int64)
    state, size = 0, len(trace.blocks)
    for position, block in enumerate(trace.order.tolist()):
        key = state * size + block
        found = known.get(key)
        if found is None:
            passed, after = step(states[state], trace.blocks[block].instructions)
            if after not in numbers:
                numbers[after] = len(states)
                states.append(after)
            found = known[key] = (passed, numbers[after])
        passed_in[position], state = found
    return passed_in
