"""Vector registers of every function of a program, and what its inner loops spill; from its code.

An inner loop is a cycle of the control flow with no other cycle inside and no call. What such a
loop loads into vector registers from its stack, or stores there from them, had no register: one
that the compiler spoiled. What a function saves for its caller lies outside of loops.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bicompile.artifact import Executable
from bicompile.cost.decode import Instruction, decode
from bicompile.devices.image import link
from bicompile.errors import UserError

VECTOR_REGISTERS = 32

_FRAME, _STACK = 29, 31


@dataclass(frozen=True)
class Registers:
    """What a function does with the vector registers.

    Attributes:
        used: how many of the 32 it names.
        spills: vector loads from the stack and stores to it in inner loops, as instructions.
    """

    used: int
    spills: int


def check_registers(executable: Executable) -> dict[str, Registers]:
    """Every function of an arm64 program, by symbol.

    Raises UserError for a program of another architecture, and for code that is no instruction.
    """
    target = executable.target
    if target.arch != "aarch64":
        raise UserError(
            f"{executable.object} was built for {target.name} ({target.arch}), registers are "
            "checked in arm64 code; compile with --target cortex-a53"
        )
    image = link(executable)
    start, code = image.code.address, image.code.data
    ends = [*(address for address, _ in image.symbols), start + len(code)]
    return {
        name: registers_of(decode(code[first - start : end - start], first))
        for (_, name), (first, end) in zip(image.symbols, pairwise(ends), strict=True)
    }


def registers_of(function: Sequence[Instruction]) -> Registers:
    """The vector registers of one function, given all its instructions in the order they lie."""
    used = {register for instruction in function for register in instruction.vector_registers}
    bases = {_STACK}
    if any(_STACK in i.reads and _FRAME in dict(i.writes) for i in function if i.unit == "integer"):
        bases.add(_FRAME)  # elsewhere it is a register like others
    inner = {index for loop in inner_loops(function) for index in loop}
    spills = [
        index
        for index in inner
        if function[index].unit == "memory"
        and function[index].vector_registers
        and bases.intersection(function[index].reads)
    ]
    return Registers(len(used), len(spills))


def inner_loops(function: Sequence[Instruction]) -> list[frozenset[int]]:
    """The inner loops of a function, each as the indices of its instructions."""
    followers = [followers_of(function, index) for index in range(len(function))]
    return [
        loop
        for loop in _innermost(followers, frozenset(range(len(function))))
        if not any(function[index].text.startswith("bl") for index in loop)
    ]


def followers_of(function: Sequence[Instruction], index: int) -> list[int]:
    """The instructions that may come after one; a call returns, a jump elsewhere does not."""
    instruction = function[index]
    name = instruction.text.partition(" ")[0]
    found = [] if name in ("b", "br", "ret") else [index + 1]
    if instruction.jump is not None and name != "bl":
        found.append(index + instruction.jump // 4)
    return [other for other in found if 0 <= other < len(function)]


def _innermost(
    followers: Sequence[Collection[int]], among: frozenset[int]
) -> Iterator[frozenset[int]]:
    """Cycles without a cycle inside, of the graph of the nodes `among`.

    A cycle is opened by leaving out where it is entered: what is still a cycle lies inside.
    """
    for cycle in _cycles(followers, among):
        outside = (index for index in range(len(followers)) if index not in cycle)
        entered = cycle.intersection(node for index in outside for node in followers[index])
        inside = list(_innermost(followers, cycle - (entered or {min(cycle)})))
        yield from inside or [cycle]


def _cycles(followers: Sequence[Collection[int]], among: frozenset[int]) -> list[frozenset[int]]:
    """Strongly connected components that have an edge: Tarjan's algorithm, without recursion."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    open_nodes: list[int] = []
    is_open: set[int] = set()
    found = []
    for root in sorted(among):
        if root in number:
            continue
        path = [(root, iter([node for node in followers[root] if node in among]))]
        while path:
            node, left = path[-1]
            if node not in number:
                number[node] = lowest[node] = len(number)
                open_nodes.append(node)
                is_open.add(node)
            for other in left:
                if other not in number:
                    path.append((other, iter([n for n in followers[other] if n in among])))
                    break
                if other in is_open:
                    lowest[node] = min(lowest[node], number[other])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == number[node]:
                    at = open_nodes.index(node)
                    component = frozenset(open_nodes[at:])
                    del open_nodes[at:]
                    is_open -= component
                    if len(component) > 1 or node in followers[node]:
                        found.append(component)
    return found
