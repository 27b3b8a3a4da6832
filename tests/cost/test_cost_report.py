import numpy as np
import pytest

from bicompile.calls import KernelCall
from bicompile.cost import inorder
from bicompile.cost.report import Row, measure, model_source, observe
from bicompile.errors import UserError

X = np.zeros(16, np.float32)
LINES = """
mov x9, x30; bl floats; str q0, [x1]; mov x30, x9; ret
.type floats,@function; floats: fadd s0, s0, s0; fadd s0, s0, s0
"""


SHARED = """
mov x9, x30; bl first; bl second; mov x30, x9; ret
.type first,@function; first: mov w0, #2; b turns
.type second,@function; second: mov w0, #5; b turns
.type turns,@function; turns: fadd s0, s1, s2; subs w0, w0, #1; b.ne turns; ret
"""


def test_a_function_that_kernels_share_counts_to_the_one_that_called_it(program) -> None:
    calls = [KernelCall(name, "", f"of {name}", None, 0, 0, 0, 0) for name in ("first", "second")]
    layers = {row.name: row for row in observe(program(SHARED), X).layers(calls)}
    assert [layers[f"of {call.kernel}"].instructions for call in calls] == [2 + 7, 2 + 16]
    assert [layers[f"of {call.kernel}"].registers for call in calls] == [3, 3]


def test_rows_are_ordered_by_modelled_cycles(program) -> None:
    assert measure(program(LINES), X) == [
        Row("model_run", 5, 0, 0, {"cortex-a53": 7}, 1, 0),
        Row("floats", 3, 2, 0, {"cortex-a53": 6}, 1, 0),
    ]


def test_without_models_rows_are_ordered_by_instructions(program) -> None:
    assert [row.name for row in measure(program(LINES), X, ())] == ["model_run", "floats"]


def test_an_unknown_model_is_named_beside_the_known_ones(program) -> None:
    with pytest.raises(UserError, match=r"no cost model for cortex-a9: .*cortex-a53, cortex-a72"):
        measure(program(LINES), X, ("cortex-a9",))


def test_the_source_of_a_figure_names_its_model() -> None:
    assert model_source("cortex-a53") == f"modelled by the {inorder.NAME}"
