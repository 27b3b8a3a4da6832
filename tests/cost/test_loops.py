from pathlib import Path

from bicompile.artifact import read_artifact
from bicompile.cost.loops import hottest_loops, lines_of
from bicompile.cost.registers import inner_loops
from bicompile.cost.report import observe, sample_of


def uses(assemble, lines: str) -> list[str]:
    """Of every instruction of the only loop: what becomes of v0, v1 and v2."""
    function = assemble(lines)
    (loop,) = inner_loops(function)
    return [
        " ".join(line.use(register) for register in range(3)) for line in lines_of(function, loop)
    ]


def test_a_value_is_live_until_it_is_read_last(assemble) -> None:
    lines = "1: ldr q0, [x0]; ldr q1, [x1]; eor v2.16b, v0.16b, v1.16b; cbnz x3, 1b"
    assert uses(assemble, lines) == [
        "written free free",
        "live written free",
        "read read written",
        "free free free",
    ]


def test_a_sum_is_live_around_the_loop(assemble) -> None:
    lines = "1: ldr q1, [x1]; add v0.16b, v0.16b, v1.16b; cbnz x3, 1b"
    assert uses(assemble, lines) == ["live written free", "updated read free", "live free free"]


def test_a_constant_of_the_loop_is_live_in_all_of_it(assemble) -> None:
    lines = "ldr q0, [x0]; 1: eor v1.16b, v0.16b, v0.16b; nop; cbnz x3, 1b"
    assert [use.split()[0] for use in uses(assemble, lines)] == ["read", "live", "live"]


def test_the_hottest_loops_are_those_of_the_run(compiled_folder: Path) -> None:
    executable = read_artifact(compiled_folder).executable
    run = observe(executable, sample_of(executable))
    loops = hottest_loops(executable, run, "cortex-a53")
    cycles = [loop.modelled_cycles for loop in loops]
    assert cycles == sorted(cycles, reverse=True)
    assert 0 < sum(cycles) < run.total("in all").modelled_cycles["cortex-a53"]
    assert all(0 < loop.used <= 32 and loop.turns > 0 for loop in loops)
