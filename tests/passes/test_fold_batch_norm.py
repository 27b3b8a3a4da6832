from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import applied, assert_same, floats, inferred, ops_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.fold_batch_norm import fold_batch_norm

FINITE = st.floats(-4, 4, width=32)


def normalized(
    shape: tuple[int, ...], parameters: dict[str, np.ndarray], **attributes: Any
) -> onnx.ModelProto:
    names = ["x", "gamma", "beta", "mean", "variance"]
    nodes = [helper.make_node("BatchNormalization", names, ["y"], "norm", **attributes)]
    return model_of(nodes, parameters, x=shape, y=shape)


def parameters_of(channels: int, **given_values: list[float]) -> dict[str, np.ndarray]:
    values = {
        "gamma": floats(1, channels),
        "beta": floats(2, channels),
        "mean": floats(3, channels),
        "variance": np.abs(floats(4, channels)) + 0.1,
    }
    return values | {name: np.array(value, np.float32) for name, value in given_values.items()}


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    parameters = parameters_of(
        3, gamma=[2, -1, 0], beta=[1, 2, 3], mean=[0.5, 0, 4], variance=[4, 1, 9]
    )
    before = normalized((1, 3, 2), parameters, epsilon=0.0)
    golden("fold_batch_norm-before", graph_text(inferred(before)))
    golden("fold_batch_norm-after", graph_text(applied(before, fold_batch_norm)))


@settings(max_examples=40)
@given(
    channels=st.integers(1, 9),
    trailing=st.lists(st.integers(1, 4), max_size=3),
    gammas=st.lists(FINITE, min_size=9, max_size=9),
    variances=st.lists(st.floats(2**-10, 100, width=32), min_size=9, max_size=9),
    epsilon=st.sampled_from([1e-5, 1e-3, 0.5]),
    seed=st.integers(0, 1000),
)
def test_any_gamma_gives_the_same(
    channels: int,
    trailing: list[int],
    gammas: list[float],
    variances: list[float],
    epsilon: float,
    seed: int,
) -> None:
    parameters = parameters_of(channels, gamma=gammas[:channels], variance=variances[:channels])
    shape = (1, channels, *trailing)
    before = normalized(shape, parameters, epsilon=epsilon)
    after = applied(before, fold_batch_norm)
    assert ops_of(after) == ["Mul", "Add"]
    assert_same(before, after, floats(seed, *shape))


def test_gamma_zero_gives_beta() -> None:
    before = normalized((1, 2, 3), parameters_of(2, gamma=[0, 0], beta=[5, -6]))
    after = applied(before, fold_batch_norm)
    assert_same(before, after, 1e6 * floats(0, 1, 2, 3), tolerance=0)


def test_the_default_epsilon_is_that_of_onnx() -> None:
    before = normalized((1, 2), parameters_of(2, variance=[0, 0]))
    assert_same(before, applied(before, fold_batch_norm), floats(0, 1, 2))


@pytest.mark.parametrize(
    "values",
    [{"variance": [-1, 1]}, {"gamma": [np.nan, 1]}, {"beta": [np.inf, 1]}, {"mean": [np.inf, 1]}],
)
def test_what_is_not_finite_stays(values: dict[str, list[float]]) -> None:
    after = applied(normalized((1, 2, 3), parameters_of(2, **values)), fold_batch_norm)
    assert ops_of(after) == ["BatchNormalization"]


def test_a_parameter_that_is_computed_stays() -> None:
    parameters = parameters_of(2)
    nodes = [
        helper.make_node("ReduceMax", ["x", "axes"], ["gamma"], keepdims=0),
        helper.make_node(
            "BatchNormalization", ["x", "gamma", "beta", "mean", "variance"], ["y"], "norm"
        ),
    ]
    constants = {**parameters, "axes": np.array([0, 2])}
    del constants["gamma"]
    before = model_of(nodes, constants, x=(1, 2, 3), y=(1, 2, 3))
    assert ops_of(applied(before, fold_batch_norm)) == ["ReduceMax", "BatchNormalization"]


def test_training_mode_stays() -> None:
    nodes = [
        helper.make_node(
            "BatchNormalization",
            ["x", "gamma", "beta", "mean", "variance"],
            ["y", "running_mean", "running_variance"],
            "norm",
            training_mode=1,
        )
    ]
    before = model_of(nodes, parameters_of(2), x=(1, 2, 3), y=(1, 2, 3))
    assert ops_of(applied(before, fold_batch_norm)) == ["BatchNormalization"]


def test_doubles_stay() -> None:
    names = ["wide", "gamma", "beta", "mean", "variance"]
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.DOUBLE),
        helper.make_node("BatchNormalization", names, ["normed"], "norm"),
        helper.make_node("Cast", ["normed"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    constants = {name: value.astype(np.float64) for name, value in parameters_of(2).items()}
    before = model_of(nodes, constants, x=(1, 2, 3), y=(1, 2, 3))
    assert ops_of(applied(before, fold_batch_norm)) == ["Cast", "BatchNormalization", "Cast"]
