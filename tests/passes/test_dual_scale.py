from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from binary_layer_graphs import CONV1, CONV2, layer, weights_of
from graphs import applied, floats, ops_of, run
from hypothesis import given, settings
from hypothesis import strategies as st

from bicompile.graph_text import graph_text
from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.channels_last import channels_last
from bicompile.passes.dual_scale import dual_scale
from bicompile.passes.fold_affine import fold_affine
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

LINEAR = (1, 3, 5)


def binary(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as the pass finds it."""
    passes = (normalise_sign, remove_unused, binary_layers, remove_unused)
    return applied(model, *passes, channels_last, remove_unused, fold_affine)


def joined(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, dual_scale, remove_unused)


def linear(axes: list[int], **options: Any) -> onnx.ModelProto:
    return layer("MatMul", LINEAR, weights_of(0, 5, 4), axes=axes, **options)


def assert_joined(model: onnx.ModelProto) -> None:
    """Two products become one, and every answer is the same to the bit."""
    before = binary(model)
    after = joined(before)
    ops = ops_of(after)
    assert ops.count("DualScale") == 1
    assert "Threshold" not in ops
    assert sum(op in ("BinaryLinear", "BinaryConv1d", "BinaryConv2d") for op in ops) == 1
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    at_threshold = np.full(shape, 0.1, np.float32)
    special = floats(9, *shape)
    special.ravel()[::4] = np.resize([np.inf, -np.inf, 0.0, -0.0], special.ravel()[::4].size)
    for x in (floats(0, *shape), floats(1, *shape), at_threshold, special):
        np.testing.assert_array_equal(run(after, x), run(before, x))


def test_the_graph_before_and_after(golden: Callable[[str, str], None]) -> None:
    before = binary(linear([2]))
    golden("dual_scale-before", graph_text(before))
    golden("dual_scale-after", graph_text(joined(before)))


@pytest.mark.parametrize("axes", [[2], [1, 2]], ids=["per frame", "per sample"])
@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_a_linear_layer_has_one_product(axes: list[int], slope: float) -> None:
    assert_joined(linear(axes, slope=slope))


@pytest.mark.parametrize("pads", [[0] * 4, [1] * 4])
def test_a_convolution_has_one_product(pads: list[int]) -> None:
    weights = weights_of(0, 4, 5, 3, 3)
    assert_joined(layer("Conv", CONV2, weights, axes=[1, 2, 3], pads=pads))


def test_a_depthwise_layer_has_one_product() -> None:
    assert_joined(layer("Conv", CONV1, weights_of(0, 5, 1, 3), axes=[2], group=5))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    theta=st.lists(st.floats(-2, 2, width=32), min_size=5, max_size=5),
    slope=st.sampled_from([0.3, -0.3]),
)
def test_any_thresholds_give_the_same_bits(seed: int, theta: list[float], slope: float) -> None:
    before = binary(linear([2], theta=theta, slope=slope))
    after = joined(before)
    x = floats(seed, *LINEAR)
    np.testing.assert_array_equal(run(after, x), run(before, x))


def test_one_sign_alone_stays_a_threshold() -> None:
    model = linear([2], single=True)
    assert ops_of(joined(binary(model))) == ops_of(binary(model))


def test_products_of_other_weights_stay_two() -> None:
    before = binary(linear([2]))
    second = [node for node in before.graph.node if node.op_type == "BinaryLinear"][1]
    (weights,) = (t for t in before.graph.initializer if t.name == second.input[1])
    other = onnx.numpy_helper.to_array(weights) ^ np.uint8(1)
    before.graph.initializer.append(onnx.numpy_helper.from_array(other, "other"))
    second.input[1] = "other"
    assert ops_of(joined(before)).count("BinaryLinear") == 2
