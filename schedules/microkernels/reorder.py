"""Other orders of a program in which every instruction still comes after what it waits for.

The list scheduler takes the oldest instruction that is ready, so what is older decides what an
in-order core does when. No rule for that is best for every program: tuning tries some at random.
"""

import heapq
import random
from collections.abc import Sequence

from bicompile.schedules.microkernels.instructions import Instruction
from bicompile.schedules.microkernels.list_scheduler import dependences

_SPREADS = (8, 16, 32, 64)
"""How many places an instruction moves at most, by the order's number."""


def reordered(program: Sequence[Instruction], number: int) -> list[Instruction]:
    """The program in its order of this number; 0 is the order it has. Same number, same order."""
    if number == 0:
        return list(program)
    generator = random.Random(number)
    spread = _SPREADS[number % len(_SPREADS)]
    keys = [index + generator.uniform(0, spread) for index in range(len(program))]
    earlier = [{other for other, _ in of} for of in dependences(program)]
    later: list[list[int]] = [[] for _ in program]
    for index, others in enumerate(earlier):
        for other in others:
            later[other].append(index)
    ready = [(keys[index], index) for index, others in enumerate(earlier) if not others]
    heapq.heapify(ready)
    order = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(program[index])
        for after in later[index]:
            earlier[after].discard(index)
            if not earlier[after]:
                heapq.heappush(ready, (keys[after], after))
    return order
