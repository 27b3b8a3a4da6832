from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graphs import SIGN, applied, assert_same, floats, inferred, ops_of, run
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.remove_unused import remove_unused
from bicompile.passes.straight_through import straight_through

SHAPE = (1, 4)
Op = tuple[str, list[str], str]

QUANTIZED: list[Op] = [
    ("GreaterOrEqual", ["x", "zero"], "bit"),
    ("Where", ["bit", "one", "minus"], "q"),
]
CLIPPED: list[Op] = [("Clip", ["x", "minus", "one"], "c")]


def model(*ops: Op) -> onnx.ModelProto:
    """Ops, each (op, inputs, output), the last of which gives y."""
    nodes = [helper.make_node(op, inputs, [to], to) for op, inputs, to in ops]
    constants = {**SIGN, "large": np.float32(2**23), "also_one": np.float32(1)}
    used = {name for _, inputs, _ in ops for name in inputs}
    constants = {name: array for name, array in constants.items() if name in used}
    return model_of(nodes, constants, x=SHAPE, y=SHAPE)


def dropped(before: onnx.ModelProto) -> onnx.ModelProto:
    return applied(before, straight_through, remove_unused)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = model(*QUANTIZED, *CLIPPED, ("Sub", ["q", "c"], "r"), ("Add", ["r", "c"], "y"))
    golden("straight_through-before", graph_text(inferred(before)))
    golden("straight_through-after", graph_text(dropped(before)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Sub", ["q", "c"]), ("Add", ["r", "c"])),
        (("Sub", ["q", "c"]), ("Add", ["c", "r"])),
        (("Add", ["q", "c"]), ("Sub", ["r", "c"])),
        (("Add", ["c", "q"]), ("Sub", ["r", "c"])),
        (("Sub", ["c", "q"]), ("Sub", ["c", "r"])),
        (("Sub", ["c", "c"]), ("Add", ["q", "r"])),
        (("Sub", ["c", "c"]), ("Sub", ["q", "r"])),
    ],
)
def test_a_residue_is_dropped_wherever_it_stands_in_a_sum_of_three(
    first: tuple[str, list[str]], second: tuple[str, list[str]]
) -> None:
    before = model(*QUANTIZED, *CLIPPED, (*first, "r"), (*second, "y"))
    after = dropped(before)
    assert ops_of(after) == ["GreaterOrEqual", "Where"]
    assert_same(before, after, floats(0, *SHAPE), floats(1, *SHAPE) * 100)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Add", ["q", "c"]), ("Add", ["r", "c"])),
        (("Sub", ["q", "c"]), ("Sub", ["r", "c"])),
        (("Sub", ["c", "q"]), ("Sub", ["r", "c"])),  # −q
        (("Sub", ["q", "c"]), ("Add", ["r", "x"])),
        (("Sub", ["q", "c"]), ("Mul", ["r", "c"])),
    ],
)
def test_what_is_no_residue_stays(
    first: tuple[str, list[str]], second: tuple[str, list[str]]
) -> None:
    before = model(*QUANTIZED, *CLIPPED, (*first, "r"), (*second, "y"))
    assert ops_of(dropped(before)) == ops_of(before)


def test_a_number_that_is_added_and_taken_off_stays_since_it_rounds() -> None:
    before = model(
        *QUANTIZED[:1],
        ("Where", ["bit", "x", "minus"], "q"),
        ("Add", ["q", "large"], "r"),
        ("Sub", ["r", "large"], "y"),
    )
    assert ops_of(dropped(before)) == ops_of(before)


def test_a_real_number_stays() -> None:
    before = model(
        ("Exp", ["x"], "q"), *CLIPPED, ("Sub", ["q", "c"], "r"), ("Add", ["r", "c"], "y")
    )
    assert ops_of(dropped(before)) == ops_of(before)


def test_the_two_clips_may_be_two_nodes() -> None:
    before = model(
        *QUANTIZED,
        *CLIPPED,
        ("Sub", ["q", "c"], "r"),
        ("Clip", ["x", "minus", "also_one"], "again"),
        ("Add", ["again", "r"], "y"),
    )
    assert ops_of(dropped(before)) == ["GreaterOrEqual", "Where"]


def test_two_clips_that_differ_stay() -> None:
    before = model(
        *QUANTIZED,
        *CLIPPED,
        ("Sub", ["q", "c"], "r"),
        ("Clip", ["x", "zero", "also_one"], "again"),
        ("Add", ["again", "r"], "y"),
    )
    assert ops_of(dropped(before)) == ops_of(before)


def test_a_scaled_sign_is_a_quantized_number_too() -> None:
    before = model(
        ("Sign", ["x"], "sign"),
        ("Abs", ["x"], "size"),
        ("Mul", ["size", "sign"], "q"),
        *CLIPPED,
        ("Sub", ["q", "c"], "r"),
        ("Add", ["r", "c"], "y"),
    )
    assert ops_of(dropped(before)) == ["Sign", "Abs", "Mul"]


def test_a_residue_that_makes_its_number_larger_stays() -> None:
    nodes = [
        helper.make_node("Sign", ["one"], ["q"]),
        helper.make_node("Sub", ["q", "x"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["y"]),
    ]
    before = model_of(nodes, SIGN, x=SHAPE, y=SHAPE)
    assert ops_of(dropped(before)) == ["Sign", "Sub", "Add"]


def test_what_is_dropped_is_rounding_only() -> None:
    before = model(*QUANTIZED, ("Sub", ["q", "x"], "r"), ("Add", ["x", "r"], "y"))
    after = dropped(before)
    for size in (1e-3, 1, 1e3, 1e6, 1e12):
        x = floats(0, *SHAPE) * np.float32(size)
        difference = np.abs(run(after, x) - run(inferred(before), x))
        assert (difference <= 2.0**-23 * (1 + np.abs(x))).all()
