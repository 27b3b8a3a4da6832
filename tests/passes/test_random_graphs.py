"""Random binary networks give the same after every pass, and what can be binary is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import RandomGraph, random_graphs

from bicompile.check import check_pass, observe
from bicompile.load import load_model
from bicompile.report import read_layers
from bicompile.rewriting import run_passes

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def assert_right(graph: RandomGraph, folder: Path) -> None:
    """Every pass is checked; ties are compared exactly; the decisions are those expected."""
    onnx.save(graph.model, folder / "model.onnx")
    traced = load_model(folder / "model.onnx")
    lowered = run_passes(traced, check=True, sign_of_zero=graph.sign_of_zero)
    inputs = graph.inputs(12)
    expected, found = observe(graph.meant, inputs), observe(lowered, inputs)
    if graph.exact:
        for one, other in zip(expected.outputs, found.outputs, strict=True):
            np.testing.assert_array_equal(one, other)
    else:
        check_pass("(all)", expected, found)
    decided = {layer.name: layer for layer in read_layers(lowered)}
    for name, must in graph.binary.items():
        if name in decided and must is not None:
            assert decided[name].binary == must, decided[name].reason


@settings(max_examples=60, suppress_health_check=SLOW)
@given(graph=random_graphs())
def test_a_random_network_gives_the_same_and_what_can_be_binary_is(
    graph: RandomGraph, tmp_path: Path
) -> None:
    assert_right(graph, tmp_path)


@pytest.mark.slow
@settings(max_examples=2000, suppress_health_check=SLOW)
@given(graph=random_graphs())
def test_two_thousand_random_networks_give_the_same(graph: RandomGraph, tmp_path: Path) -> None:
    assert_right(graph, tmp_path)
