"""A list scheduler for cores that issue in order, and loops whose iterations overlap.

Like an out-of-order core, but ahead of time: in every cycle the oldest instructions whose
operands are ready are taken, at most two, one a unit. Registers are already chosen; an
instruction waits for the readers and the writer of what it overwrites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bicompile.schedules.microkernels.instructions import Instruction, Unit, integer

_SLOTS = 2
_WINDOW = 128
"""Instructions looked at in one cycle; registers bind long before that."""


@dataclass(frozen=True)
class Issued:
    """An instruction, its place in the program, and the cycle in which it may start."""

    cycle: int
    instruction: Instruction
    index: int


@dataclass(frozen=True)
class Stages:
    """A loop body in two parts: `finish` of one iteration overlaps with `start` of the next.

    All of `finish` lies in the first `late` instructions of `loop`. The first iteration enters the
    loop behind them, once it has done what else they are: so no part of a body is there twice but
    for `first` and `finish`. first, loop[late:], (iterations − 1) × loop, then finish, is the same
    as iterations × (start, finish).

    Attributes:
        start: the first part.
        first: what of `start` is in loop[:late].
        late: where the first iteration enters the loop.
        loop: both parts, and the iterations' count.
        finish: the second part.
    """

    start: list[Instruction]
    first: list[Instruction]
    late: int
    loop: list[Instruction]
    finish: list[Instruction]

    def begun(self, times: int) -> list[Instruction]:
        """What comes before the turns of so many iterations: for a single one there are none."""
        return self.first if times > 1 else self.start

    def turns(self, label: str) -> list[str]:
        """The loop after `first`. Of its lines, labels end in a colon."""
        head = [step.text for step in self.loop[: self.late]]
        body = [step.text for step in self.loop[self.late :]]
        enter, entry = ([f"b {label}_first"], [f"{label}_first:"]) if head else ([], [])
        return [*enter, f"{label}:", *head, *entry, *body, f"b.ne {label}"]


def schedule(
    program: Sequence[Instruction], ready: Mapping[str, int] | None = None
) -> list[Issued]:
    """Order a straight program; `ready` gives the cycle at which a register's value arrives."""
    waits = dependences(program)
    arrival = dict(ready or {})
    started: dict[int, int] = {}
    pending = list(range(len(program)))
    free: dict[Unit, int] = {"vector": 0, "memory": 0, "integer": 0}
    order: list[Issued] = []
    cycle = 0
    while pending:
        taken: list[int] = []
        for index in pending[:_WINDOW]:
            instruction = program[index]
            if (
                free[instruction.unit] <= cycle
                and all(other in started for other, _ in waits[index])
                and all(started[other] + gap <= cycle for other, gap in waits[index])
                and (not arrival or _arrived(instruction, arrival, cycle))
            ):
                started[index] = cycle
                free[instruction.unit] = cycle + instruction.cycles
                order.append(Issued(cycle, instruction, index))
                taken.append(index)
                if len(taken) == _SLOTS:
                    break
        for index in taken:
            pending.remove(index)
        cycle += 1
        arrival = {register: at for register, at in arrival.items() if at > cycle}
    return order


def in_two_stages(program: Sequence[Instruction], counter: str, last: str = "eor") -> Stages:
    """Split a loop body where its last `last` starts: what comes later is left to `finish`.

    The register `counter` has the iterations that are left, when `first` begins all of them.
    """
    order = schedule(program)
    cut = max(i for i, issued in enumerate(order) if issued.instruction.name == last) + 1
    start = [issued.instruction for issued in order[:cut]]
    finish = [issued.instruction for issued in order[cut:]]
    ready = _ready_after(order[:cut])
    both = schedule([*finish, _counted(counter), *start], ready)
    late = max((i + 1 for i, issued in enumerate(both) if issued.index < len(finish)), default=0)
    first = [issued.instruction for issued in both[:late] if issued.index >= len(finish)]
    loop = [issued.instruction for issued in both]
    return Stages(start, first, late, loop, [each.instruction for each in schedule(finish, ready)])


def in_one_stage(program: Sequence[Instruction], counter: str) -> Stages:
    """A loop body that is ordered by itself: every iteration waits for the one before."""
    start, loop = (
        [issued.instruction for issued in schedule(steps)]
        for steps in (program, [_counted(counter), *program])
    )
    return Stages(start, [], 0, loop, [])


def _counted(counter: str) -> Instruction:
    """One iteration less is left; the flags tell whether there is any."""
    return integer(f"subs {counter}, {counter}, #1", counter, counter)


def _ready_after(order: Sequence[Issued]) -> dict[str, int]:
    end = order[-1].cycle + 1
    return {
        register: issued.cycle + latency - end
        for issued in order
        for register, latency in issued.instruction.writes
    }


def _arrived(instruction: Instruction, arrival: Mapping[str, int], cycle: int) -> bool:
    return all(arrival.get(register, 0) <= cycle for register in instruction.reads)


def dependences(program: Sequence[Instruction]) -> list[list[tuple[int, int]]]:
    """For every instruction: earlier ones and the cycles after which it may follow each."""
    writer: dict[str, tuple[int, int]] = {}
    readers: dict[str, list[int]] = {}
    waits: list[list[tuple[int, int]]] = []
    for index, instruction in enumerate(program):
        written = [register for register, _ in instruction.writes]
        follow = [writer[register] for register in instruction.reads if register in writer]
        follow += [(writer[register][0], 1) for register in written if register in writer]
        follow += [(other, 0) for register in written for other in readers.get(register, [])]
        waits.append(follow)
        for register in instruction.reads:
            readers.setdefault(register, []).append(index)
        for register, latency in instruction.writes:
            writer[register] = (index, latency)
            readers[register] = []
    return waits
