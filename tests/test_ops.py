"""The domain's ops in stock onnxruntime, against plain numpy."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bicompile.check import session
from bicompile.ops import (
    DOMAIN,
    FUNCTIONS,
    STANDARD_OPSET,
    VERSION,
    function_protos,
    pack_bits,
    unpack_bits,
)

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0])
SEEDS = st.integers(0, 2**32 - 1)


def model_of(
    op: str, inputs: Sequence[np.ndarray], dtype: int, **attributes: object
) -> onnx.ModelProto:
    """A model of one node; its output may have any shape."""
    names = [f"input{index}" for index in range(len(inputs))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain=DOMAIN, **attributes)],
        op,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in zip(names, inputs, strict=True)
        ],
        [helper.make_tensor_value_info("y", dtype, None)],
    )
    domains = [helper.make_opsetid("", STANDARD_OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(
        graph, opset_imports=domains, functions=function_protos(), ir_version=10
    )


def run(op: str, *inputs: np.ndarray, dtype: int, **attributes: object) -> np.ndarray:
    model = model_of(op, inputs, dtype, **attributes)
    (y,) = session(model).run(None, {f"input{i}": value for i, value in enumerate(inputs)})
    return y


def signs(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), shape)


def threshold(x: np.ndarray, theta: np.ndarray, *, greater: bool) -> np.ndarray:
    return run("Threshold", x, theta, dtype=TensorProto.UINT8, greater=int(greater))


def packed_comparison(x: np.ndarray, theta: np.ndarray, *, greater: bool) -> np.ndarray:
    """One bit at a time."""
    channels = x.shape[-1]
    bits = np.zeros((*x.shape[:-1], -(-channels // 8)), np.uint8)
    for position in np.ndindex(*x.shape):
        *place, channel = position
        a, b = float(x[position]), float(theta[channel])
        if (a >= b) if greater else (a <= b):
            bits[(*place, channel // 8)] |= 1 << channel % 8
    return bits


def convolution(
    image: np.ndarray,
    kernel: np.ndarray,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> np.ndarray:
    """(H, W, C) with (O, kh, kw, C): one product at a time, nothing outside the image."""
    height, width, _ = image.shape
    outputs, kh, kw, _ = kernel.shape
    rows = (height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    result = np.zeros((rows, columns, outputs), np.int32)
    for row, column, i, j in np.ndindex(rows, columns, kh, kw):
        y = row * strides[0] + i * dilations[0] - pads[0]
        x = column * strides[1] + j * dilations[1] - pads[1]
        if 0 <= y < height and 0 <= x < width:
            products = kernel[:, i, j].astype(np.int32) * image[y, x]
            result[row, column] += products.sum(axis=-1)
    return result


@given(shape=st.lists(st.integers(1, 20), min_size=1, max_size=4), seed=SEEDS)
def test_unpacking_undoes_packing(shape: list[int], seed: int) -> None:
    b = signs(seed, *shape)
    bits = pack_bits(b)
    assert bits.shape == (*shape[:-1], -(-shape[-1] // 8))
    np.testing.assert_array_equal(unpack_bits(bits, shape[-1]), b)


@given(channels=st.integers(1, 40), seed=SEEDS)
def test_bits_after_the_last_channel_are_clear(channels: int, seed: int) -> None:
    bits = np.unpackbits(pack_bits(np.abs(signs(seed, 2, channels))), axis=-1, bitorder="little")
    assert bits.sum() == 2 * channels
    assert not bits[:, channels:].any()


@settings(max_examples=25)
@given(leading=st.lists(st.integers(1, 3), max_size=3), channels=st.integers(1, 30), seed=SEEDS)
def test_unpack_gives_the_packed_signs(leading: list[int], channels: int, seed: int) -> None:
    b = signs(seed, *leading, channels)
    spread = run("Unpack", pack_bits(b), dtype=TensorProto.FLOAT, channels=channels)
    np.testing.assert_array_equal(spread, b.astype(np.float32))


@settings(max_examples=40)
@given(data=st.data(), greater=st.booleans())
def test_threshold_packs_the_comparison(data: st.DataObject, greater: bool) -> None:
    leading = data.draw(st.lists(st.integers(1, 3), max_size=2))
    channels = data.draw(st.integers(1, 20))
    count = int(np.prod(leading)) * channels
    theta = np.array(data.draw(st.lists(FLOATS, min_size=channels, max_size=channels)), np.float32)
    values = FLOATS | st.sampled_from([float(t) for t in theta])
    drawn = data.draw(st.lists(values, min_size=count, max_size=count))
    x = np.array(drawn, np.float32).reshape(*leading, channels)
    expected = packed_comparison(x, theta, greater=greater)
    np.testing.assert_array_equal(threshold(x, theta, greater=greater), expected)


@pytest.mark.parametrize("greater", [True, False])
@pytest.mark.parametrize(
    ("x", "theta"),
    [(0.0, -0.0), (-0.0, 0.0), (1.5, 1.5), (np.inf, np.inf), (-np.inf, -np.inf), (1e-45, 1e-45)],
)
def test_a_tie_sets_the_bit_in_either_direction(x: float, theta: float, greater: bool) -> None:
    sides = np.array([[x], [theta]], np.float32)
    assert threshold(sides[:1], sides[1], greater=greater) == 1


@pytest.mark.parametrize("greater", [True, False])
@pytest.mark.parametrize(("x", "theta"), [(np.nan, 0.0), (0.0, np.nan), (np.nan, np.nan)])
def test_nan_on_either_side_leaves_the_bit_clear(x: float, theta: float, greater: bool) -> None:
    sides = np.array([[x], [theta]], np.float32)
    assert threshold(sides[:1], sides[1], greater=greater) == 0


@settings(max_examples=30)
@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    channels=st.integers(1, 70),
    outputs=st.integers(1, 9),
    seed=SEEDS,
)
def test_binary_linear_is_the_exact_product(
    leading: list[int], channels: int, outputs: int, seed: int
) -> None:
    a, w = signs(seed, *leading, channels), signs(seed + 1, outputs, channels)
    product = run(
        "BinaryLinear", pack_bits(a), pack_bits(w), dtype=TensorProto.INT32, channels=channels
    )
    np.testing.assert_array_equal(product, a.astype(np.int32) @ w.T.astype(np.int32), strict=True)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 64, 300])
@pytest.mark.parametrize("a", [-1, 1])
@pytest.mark.parametrize("w", [-1, 1])
def test_binary_linear_reaches_its_extremes(channels: int, a: int, w: int) -> None:
    bits = pack_bits(np.full((1, channels), a))
    weights = pack_bits(np.full((1, channels), w))
    product = run("BinaryLinear", bits, weights, dtype=TensorProto.INT32, channels=channels)
    assert product == a * w * channels


@st.composite
def windows(draw: st.DrawFn) -> dict[str, list[int]]:
    strides = draw(st.tuples(*[st.integers(1, 3)] * 2))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    dilations = draw(st.tuples(*[st.integers(1, 2)] * 2))
    return {"strides": [*strides], "pads": [*pads], "dilations": [*dilations]}


@settings(max_examples=40)
@given(
    channels=st.integers(1, 18),
    outputs=st.integers(1, 4),
    kernel=st.tuples(*[st.integers(1, 3)] * 2),
    extra=st.tuples(*[st.integers(0, 4)] * 2),
    window=windows(),
    seed=SEEDS,
)
def test_binary_conv2d_sums_only_what_is_inside(
    channels: int,
    outputs: int,
    kernel: tuple[int, int],
    extra: tuple[int, int],
    window: dict[str, list[int]],
    seed: int,
) -> None:
    size = [(k - 1) * d + 1 + e for k, d, e in zip(kernel, window["dilations"], extra, strict=True)]
    a, w = signs(seed, 1, *size, channels), signs(seed + 1, outputs, *kernel, channels)
    product = run(
        "BinaryConv2d",
        pack_bits(a),
        pack_bits(w),
        dtype=TensorProto.INT32,
        channels=channels,
        **window,
    )
    np.testing.assert_array_equal(product[0], convolution(a[0], w, **window), strict=True)


@pytest.mark.parametrize("sign", [-1, 1])
def test_padding_is_neither_plus_nor_minus_one(sign: int) -> None:
    ones = np.full((1, 3, 3, 5), sign)
    product = run(
        "BinaryConv2d",
        pack_bits(ones),
        pack_bits(np.ones((1, 3, 3, 5))),
        dtype=TensorProto.INT32,
        channels=5,
        strides=[1, 1],
        pads=[1, 1, 1, 1],
        dilations=[1, 1],
    )
    inside = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_array_equal(product[0, ..., 0], sign * 5 * inside)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_the_function_body_is_valid_and_in_standard_ops(function: object) -> None:
    proto = function.to_function_proto()
    domains = {node.domain for node in proto.node}
    assert domains <= {"", DOMAIN}
    context = onnx.checker.C.CheckerContext()
    context.ir_version = 10
    context.opset_imports = {"": STANDARD_OPSET, DOMAIN: VERSION}
    onnx.checker.check_function(proto, context)


def test_the_reference_evaluator_agrees_with_onnxruntime() -> None:
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 11)).astype(np.float32)
    theta = np.zeros(11, np.float32)
    bits = threshold(x, theta, greater=False)
    weights = pack_bits(signs(1, 3, 3, 3, 11))
    window = {"strides": [2, 1], "pads": [1, 0, 1, 2], "dilations": [1, 2]}
    cases = [
        ("Threshold", (x, theta), TensorProto.UINT8, {"greater": 0}),
        ("Unpack", (bits,), TensorProto.FLOAT, {"channels": 11}),
        ("BinaryLinear", (bits, weights[:, 0, 0]), TensorProto.INT32, {"channels": 11}),
        ("BinaryConv2d", (bits, weights), TensorProto.INT32, {"channels": 11, **window}),
    ]
    for op, inputs, dtype, attributes in cases:
        model = model_of(op, inputs, dtype, **attributes)
        feeds = {f"input{index}": value for index, value in enumerate(inputs)}
        (y,) = ReferenceEvaluator(model).run(None, feeds)
        np.testing.assert_array_equal(y, run(op, *inputs, dtype=dtype, **attributes), strict=True)
