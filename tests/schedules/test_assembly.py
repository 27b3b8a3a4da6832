import re
from collections.abc import Callable

import pytest
from tvm import tirx

from bicompile.codegen import emit_assembly
from bicompile.schedules import schedule
from bicompile.targets import find_target
from bicompile.workloads import threshold

KERNELS = {
    "pack-eight-cortex-a53": threshold(1, 8, greater=True),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_assembly_for_cortex_a53_is_the_golden_one(
    name: str, golden: Callable[[str, str], None]
) -> None:
    golden(name, instructions(KERNELS[name]))


def instructions(kernel: tirx.PrimFunc) -> str:
    """What the assembler turns into code, and the labels."""
    target = find_target("cortex-a53")
    text = emit_assembly({"kernel": schedule(kernel, target.arch).function}, target)
    body = text[text.index("\nkernel:") : text.index(".Lkernel_func_end0")]
    lines = [re.sub(r"\s*//.*", "", line) for line in body.splitlines()]
    debugging = re.compile(r"\s*$|\s+\.|\.Lkernel_(tmp|func)")
    return "".join(f"{line}\n" for line in lines if not debugging.match(line))
