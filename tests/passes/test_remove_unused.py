from collections.abc import Callable

import numpy as np
from graphs import applied, assert_same, floats, inferred
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.ops import FUNCTIONS
from bicompile.passes.remove_unused import remove_unused

NODES = [
    helper.make_node("Mul", ["x", "used"], ["y"], "kept"),
    helper.make_node("Add", ["x", "unused"], ["first"], "dead"),
    helper.make_node("Relu", ["first"], ["second"], "dead_too"),
]
BEFORE = model_of(NODES, {"used": np.float32(2), "unused": np.float32(3)}, x=(1, 2), y=(1, 2))


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    golden("remove_unused-before", graph_text(inferred(BEFORE)))
    golden("remove_unused-after", graph_text(applied(BEFORE, remove_unused)))


def test_only_what_the_output_needs_is_left() -> None:
    after = applied(BEFORE, remove_unused)
    assert [node.name for node in after.graph.node] == ["kept"]
    assert [tensor.name for tensor in after.graph.initializer] == ["used"]
    assert_same(BEFORE, after, floats(0, 1, 2), tolerance=0)


def test_the_functions_of_the_domain_stay_for_later_passes() -> None:
    assert len(applied(BEFORE, remove_unused).functions) == len(FUNCTIONS)
