import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graphs import SIGN, applied, assert_same, floats, inferred, ops_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import model_of
from onnx import helper

from bicompile.graph_text import graph_text
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

PLAIN = {1: ["GreaterOrEqual", "Where"], -1: ["LessOrEqual", "Where"]}
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)


def signed(
    shape: tuple[int, ...],
    *,
    theta: object = None,
    alpha: object = None,
    constants: dict[str, np.ndarray] = SIGN,
    alpha_first: bool = False,
) -> onnx.ModelProto:
    """Where(α·(x − θ) ≥ 0, 1, −1), without the parts that are None."""
    constants = dict(constants)
    nodes, value = [], "x"
    if theta is not None:
        constants["theta"] = np.asarray(theta, np.float32)
        nodes.append(helper.make_node("Sub", [value, "theta"], ["centred"], "centre"))
        value = "centred"
    if alpha is not None:
        constants["alpha"] = np.asarray(alpha, np.float32)
        sides = ["alpha", value] if alpha_first else [value, "alpha"]
        nodes.append(helper.make_node("Mul", sides, ["turned"], "turn"))
        value = "turned"
    nodes += [
        helper.make_node("GreaterOrEqual", [value, "zero"], ["bit"], "compare"),
        helper.make_node("Where", ["bit", "one", "minus"], ["y"], "choose"),
    ]
    output = np.broadcast_shapes(shape, *(value.shape for value in constants.values()))
    return model_of(nodes, constants, x=shape, y=output)


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused)


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = signed((1, 2, 3), theta=[[0.5], [-1]], alpha=-0.7)
    golden("normalise_sign-before", graph_text(inferred(before)))
    golden("normalise_sign-after", graph_text(normalised(before)))


@settings(max_examples=80)
@given(
    thetas=st.lists(st.floats(-(2**126), 2**126, width=32), min_size=3, max_size=3),
    per_channel=st.booleans(),
    alpha=st.floats(2**-60, 2**60, width=32),
    turned=st.booleans(),
    data=st.data(),
)
def test_every_input_takes_the_same_sign(
    thetas: list[float], per_channel: bool, alpha: float, turned: bool, data: st.DataObject
) -> None:
    theta = np.array(thetas, np.float32)[:, None] if per_channel else np.float32(thetas[0])
    ties = np.concatenate([np.array(thetas), -np.array(thetas), [0.0, -0.0]]).astype(np.float32)
    near = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])
    special = st.sampled_from([float(value) for value in near] + [np.inf, -np.inf, np.nan])
    drawn = data.draw(st.lists(ANY | special, min_size=6, max_size=6))
    x = np.array(drawn, np.float32).reshape(1, 3, 2)
    before = signed((1, 3, 2), theta=theta, alpha=-alpha if turned else alpha)
    after = normalised(before)
    assert ops_of(after) == PLAIN[-1 if turned else 1]
    assert_same(before, after, x, tolerance=0)


@pytest.mark.parametrize("alpha", [0.3, -0.3])
def test_an_input_at_its_threshold_is_plus_one(alpha: float) -> None:
    theta = floats(0, 5, 1)
    x = np.broadcast_to(theta, (1, 5, 4)).copy()
    assert (run(normalised(signed((1, 5, 4), theta=theta, alpha=alpha)), x) == 1).all()


@pytest.mark.parametrize("alpha", [0.3, -0.3])
def test_both_zeros_are_plus_one(alpha: float) -> None:
    x = np.array([[0.0, -0.0]], np.float32)
    assert (run(normalised(signed((1, 2), alpha=alpha)), x) == 1).all()


@pytest.mark.parametrize("theta", [None, 0.25])
@pytest.mark.parametrize("alpha", [None, 2.0, -2.0])
@pytest.mark.parametrize("alpha_first", [True, False])
def test_the_product_or_the_difference_may_be_absent(
    theta: float | None, alpha: float | None, alpha_first: bool
) -> None:
    before = signed((1, 4), theta=theta, alpha=alpha, alpha_first=alpha_first)
    after = normalised(before)
    assert ops_of(after) == PLAIN[-1 if alpha is not None and alpha < 0 else 1]
    assert_same(before, after, floats(0, 1, 4), tolerance=0)


@pytest.mark.parametrize("alpha", [0.0, -0.0, np.nan, np.inf])
def test_an_alpha_without_a_sign_stays(alpha: float) -> None:
    before = signed((1, 4), theta=0.5, alpha=alpha)
    assert ops_of(normalised(before)) == ["Sub", "Mul", "GreaterOrEqual", "Where"]


def test_a_product_that_underflows_moves_the_threshold_exactly() -> None:
    before = signed((1, 4), theta=0.5, alpha=1e-40)
    after = normalised(before)
    assert ops_of(after) == PLAIN[1]
    x = np.array([[0.5, 0.5 - 2**-20, 0.25, -1]], np.float32)
    assert_same(before, after, x, tolerance=0)
    assert run(after, x)[0, 1] == 1


@pytest.mark.parametrize("theta", [np.inf, -np.inf, np.nan])
def test_a_threshold_that_is_not_finite_stays(theta: float) -> None:
    before = signed((1, 2), theta=[0.0, theta])
    after = normalised(before)
    assert ops_of(after) == ["Sub", "GreaterOrEqual", "Where"]


def test_an_alpha_per_channel_stays() -> None:
    before = signed((1, 2, 3), alpha=[[1.0], [-1.0]])
    assert ops_of(normalised(before)) == ["Mul", "GreaterOrEqual", "Where"]


def test_a_threshold_that_is_computed_stays() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["theta"], keepdims=1),
        helper.make_node("Sub", ["x", "theta"], ["centred"]),
        helper.make_node("GreaterOrEqual", ["centred", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "one", "minus"], ["y"]),
    ]
    before = model_of(nodes, SIGN, x=(1, 4), y=(1, 4))
    assert ops_of(normalised(before)) == ["ReduceMax", "Sub", "GreaterOrEqual", "Where"]


@pytest.mark.parametrize("values", [(1, -2), (-1, 1), (2, -2), (1, 0)])
def test_a_choice_between_other_numbers_keeps_them(values: tuple[float, float]) -> None:
    constants = dict(
        zip(("zero", "one", "minus"), map(np.float32, (0, *values)), strict=True),
    )
    before = signed((1, 4), theta=0.5, alpha=-1.0, constants=constants)
    after = normalised(before)
    assert ops_of(after) in PLAIN.values()
    assert_same(before, after, floats(0, 1, 4), tolerance=0)


def test_a_choice_between_equal_numbers_stays() -> None:
    before = signed((1, 4), theta=0.5, constants=SIGN | {"minus": np.float32(1)})
    assert ops_of(normalised(before)) == ["Sub", "GreaterOrEqual", "Where"]


@pytest.mark.parametrize("k", [[[3.0], [0.0]], [[3.0], [-0.2]]])
def test_a_factor_that_stops_or_turns_a_channel_stays_before_the_comparison(k: object) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["scaled"]),
        helper.make_node("Add", ["scaled", "t"], ["normed"]),
        helper.make_node("Greater", ["normed", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "one", "minus"], ["y"]),
    ]
    constants = {**SIGN, "k": np.array(k, np.float32), "t": np.array([[0.3], [-0.7]], np.float32)}
    before = model_of(nodes, constants, x=(1, 2, 5), y=(1, 2, 5))
    after = normalised(before)
    assert ops_of(after) == ["Mul", "GreaterOrEqual", "Where"]
    edges = np.array([0.0, 1.5, -1.5, 3e38, -3e38], np.float32)
    assert_same(before, after, np.broadcast_to(edges, (1, 2, 5)).copy(), tolerance=0)


def test_a_scale_per_channel_comes_out_of_the_choice() -> None:
    constants = {"zero": np.float32(0), "scale": np.array([[0.3], [2.0]], np.float32)}
    constants["minus"] = -constants["scale"]
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "scale", "minus"], ["y"]),
    ]
    before = model_of(nodes, constants, x=(1, 2, 3), y=(1, 2, 3))
    after = normalised(before)
    assert ops_of(after) == ["GreaterOrEqual", "Where", "Mul"]
    assert_same(before, after, floats(0, 1, 2, 3), tolerance=0)
    assert ops_of(normalised(after)) == ops_of(after)


def test_a_shift_per_channel_after_a_sign_stays_a_shift() -> None:
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["bit"]),
        helper.make_node("Where", ["bit", "one", "minus"], ["sign"]),
        helper.make_node("Sub", ["sign", "shift"], ["y"]),
    ]
    constants = {**SIGN, "shift": floats(0, 2, 1)}
    before = model_of(nodes, constants, x=(1, 2, 3), y=(1, 2, 3))
    assert ops_of(normalised(before)) == ["GreaterOrEqual", "Where", "Sub"]


def test_a_threshold_per_position_is_kept() -> None:
    theta = floats(0, 1, 2, 3)
    before = signed((1, 2, 3), theta=theta, alpha=-0.5)
    after = normalised(before)
    assert ops_of(after) == PLAIN[-1]
    near = np.stack([theta, np.nextafter(theta, 9), np.nextafter(theta, -9)])
    assert_same(before, after, *near, tolerance=0)


@pytest.mark.parametrize("name", ["zero", "alpha"])
def test_a_constant_that_adds_axes_stays(name: str) -> None:
    constants = {**SIGN, "zero": np.zeros((1,) * (4 if name == "zero" else 0), np.float32)}
    alpha = np.full((1,) * (4 if name == "alpha" else 0), -2.0)
    before = signed((1, 3), theta=0.5, alpha=alpha, constants=constants)
    before.graph.output[0].type.tensor_type.shape.Clear()
    for dim in (1, 1, 1, 3):
        before.graph.output[0].type.tensor_type.shape.dim.add(dim_value=dim)
    after = normalised(before)
    assert ops_of(after) == ["Sub", "Mul", "GreaterOrEqual", "Where"]
    assert_same(before, after, floats(0, 1, 3), tolerance=0)


def test_a_choice_that_adds_axes_stays() -> None:
    constants = {**SIGN, "one": np.ones((1, 1, 1), np.float32)}
    before = signed((1, 3), theta=0.5, alpha=-1.0, constants=constants)
    assert ops_of(normalised(before)) == ["Sub", "Mul", "GreaterOrEqual", "Where"]


def test_doubles_and_integers_stay() -> None:
    for kind in (onnx.TensorProto.DOUBLE, onnx.TensorProto.INT32):
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        nodes = [
            helper.make_node("Cast", ["x"], ["cast"], to=kind),
            helper.make_node("Sub", ["cast", "theta"], ["centred"]),
            helper.make_node("GreaterOrEqual", ["centred", "nothing"], ["bit"]),
            helper.make_node("Where", ["bit", "one", "minus"], ["y"]),
        ]
        constants = {**SIGN, "theta": np.array(3, dtype), "nothing": np.array(0, dtype)}
        before = model_of(nodes, constants, x=(1, 4), y=(1, 4))
        assert ops_of(normalised(before)) == ["Cast", "Sub", "GreaterOrEqual", "Where"]


def test_the_output_of_the_graph_keeps_its_name() -> None:
    after = normalised(signed((1, 4), theta=0.5, alpha=-1.0))
    assert [value.name for value in after.graph.output] == ["y"]


def test_the_pass_finds_nothing_more_after_itself() -> None:
    once = normalised(signed((1, 4), theta=0.5, alpha=-math.pi))
    assert ops_of(normalised(once)) == ops_of(once)
