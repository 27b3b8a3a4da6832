import numpy as np
import pytest

from bicompile.cost import inorder
from bicompile.cost.report import Row, measure, model_source
from bicompile.errors import UserError

X = np.zeros(16, np.float32)
LINES = """
mov x9, x30; bl floats; str q0, [x1]; mov x30, x9; ret
.type floats,@function; floats: fadd s0, s0, s0; fadd s0, s0, s0
"""


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
