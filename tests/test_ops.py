"""The domain's ops in stock onnxruntime, against plain numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

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


def threshold(x: np.ndarray, theta: np.ndarray, *, greater: bool, group: int = 1) -> np.ndarray:
    return run("Threshold", x, theta, dtype=TensorProto.UINT8, greater=int(greater), group=group)


def packed_comparison(x: np.ndarray, theta: np.ndarray, *, greater: bool, group: int) -> np.ndarray:
    """One bit at a time."""
    channels = x.shape[-1] // group
    group_bytes = -(-channels // 8)
    bits = np.zeros((*x.shape[:-1], group * group_bytes), np.uint8)
    for position in np.ndindex(*x.shape):
        *place, channel = position
        a, b = float(x[position]), float(theta[channel])
        if (a >= b) if greater else (a <= b):
            within = channel % channels
            bits[(*place, channel // channels * group_bytes + within // 8)] |= 1 << within % 8
    return bits


def packed(b: np.ndarray, group: int) -> np.ndarray:
    """(…, G·C) ±1, the channels of every group from a byte of their own on."""
    return pack_bits(b.reshape(*b.shape[:-1], group, -1)).reshape(*b.shape[:-1], -1)


def convolution(
    image: np.ndarray,
    kernel: np.ndarray,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    border: int,
    group: int,
) -> np.ndarray:
    """(H, W, G·C) with (O, kh, kw, C): one product at a time, `border` outside the image."""
    height, width, _ = image.shape
    outputs, kh, kw, _ = kernel.shape
    images = np.repeat(image.reshape(height, width, group, -1), outputs // group, axis=2)
    rows = (height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    result = np.zeros((rows, columns, outputs), np.int32)
    for row, column, i, j in np.ndindex(rows, columns, kh, kw):
        y = row * strides[0] + i * dilations[0] - pads[0]
        x = column * strides[1] + j * dilations[1] - pads[1]
        is_inside = 0 <= y < height and 0 <= x < width
        products = kernel[:, i, j].astype(np.int32) * (images[y, x] if is_inside else border)
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
@given(
    leading=st.lists(st.integers(1, 3), max_size=3),
    group=st.integers(1, 4),
    channels=st.integers(1, 20),
    seed=SEEDS,
)
def test_unpack_gives_the_packed_signs(
    leading: list[int], group: int, channels: int, seed: int
) -> None:
    b = signs(seed, *leading, group * channels)
    bits = packed(b, group)
    spread = run("Unpack", bits, dtype=TensorProto.FLOAT, channels=channels, group=group)
    np.testing.assert_array_equal(spread, b.astype(np.float32))


@settings(max_examples=40)
@given(data=st.data(), greater=st.booleans(), group=st.integers(1, 3))
def test_threshold_packs_the_comparison(data: st.DataObject, greater: bool, group: int) -> None:
    leading = data.draw(st.lists(st.integers(1, 3), max_size=2))
    channels = group * data.draw(st.integers(1, 20))
    count = int(np.prod(leading)) * channels
    theta = np.array(data.draw(st.lists(FLOATS, min_size=channels, max_size=channels)), np.float32)
    values = FLOATS | st.sampled_from([float(t) for t in theta])
    drawn = data.draw(st.lists(values, min_size=count, max_size=count))
    x = np.array(drawn, np.float32).reshape(*leading, channels)
    expected = packed_comparison(x, theta, greater=greater, group=group)
    np.testing.assert_array_equal(threshold(x, theta, greater=greater, group=group), expected)


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


@dataclass(frozen=True)
class Case:
    """A convolution: what goes in, ±1, and its attributes."""

    a: np.ndarray
    w: np.ndarray
    group: int
    window: dict[str, list[int]]
    border: int = 0

    def check(self) -> None:
        """The op gives the exact sums."""
        spatial = self.a.ndim - 2
        product = run(
            f"BinaryConv{spatial}d",
            packed(self.a, self.group),
            pack_bits(self.w),
            dtype=TensorProto.INT32,
            channels=self.w.shape[-1],
            group=self.group,
            border=self.border,
            **self.window,
        )
        flat = {name: [*numbers] for name, numbers in self.window.items()}
        image, kernel = self.a[0], self.w
        if spatial == 1:
            image, kernel = image[None], kernel[:, None]
            left, right = flat["pads"]
            flat = {
                "strides": [1, *flat["strides"]],
                "pads": [0, left, 0, right],
                "dilations": [1, *flat["dilations"]],
            }
        expected = convolution(image, kernel, **flat, border=self.border, group=self.group)
        np.testing.assert_array_equal(product.reshape(expected.shape), expected, strict=True)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    spatial, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    channels, outputs = draw(st.integers(1, 12)), group * draw(st.integers(1, 3))

    def each(low: int, high: int, count: int = spatial) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, dilations = each(1, 3), each(1, 2)
    size = [(k - 1) * d + 1 + e for k, d, e in zip(kernel, dilations, each(0, 4), strict=True)]
    window = {"strides": each(1, 3), "pads": each(0, 3, 2 * spatial), "dilations": dilations}
    seed = draw(SEEDS)
    a, w = signs(seed, 1, *size, group * channels), signs(seed + 1, outputs, *kernel, channels)
    return Case(a, w, group, window, draw(st.integers(-1, 1)))


@settings(max_examples=40)
@given(case=cases())
def test_a_binary_convolution_sums_what_is_inside_and_its_border(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("outputs", [5, 10])
def test_with_a_channel_a_group_it_is_a_depthwise_convolution(outputs: int) -> None:
    window = {"strides": [1], "pads": [2, 1], "dilations": [2]}
    Case(signs(0, 1, 9, 5), signs(1, outputs, 3, 1), 5, window).check()


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_border_of_zero_is_neither_plus_nor_minus_one(sign: int) -> None:
    ones = np.full((1, 3, 3, 5), sign)
    product = run(
        "BinaryConv2d",
        pack_bits(ones),
        pack_bits(np.ones((1, 3, 3, 5))),
        dtype=TensorProto.INT32,
        channels=5,
        group=1,
        strides=[1, 1],
        pads=[1, 1, 1, 1],
        border=0,
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
    window = {"group": 1, "strides": [2, 1], "pads": [1, 0, 1, 2], "dilations": [1, 2]}
    window["border"] = -1
    cases = [
        ("Threshold", (x, theta), TensorProto.UINT8, {"greater": 0, "group": 1}),
        ("Unpack", (bits,), TensorProto.FLOAT, {"channels": 11, "group": 1}),
        ("BinaryLinear", (bits, weights[:, 0, 0]), TensorProto.INT32, {"channels": 11}),
        ("BinaryConv2d", (bits, weights), TensorProto.INT32, {"channels": 11, **window}),
    ]
    for op, inputs, dtype, attributes in cases:
        model = model_of(op, inputs, dtype, **attributes)
        feeds = {f"input{index}": value for index, value in enumerate(inputs)}
        (y,) = ReferenceEvaluator(model).run(None, feeds)
        np.testing.assert_array_equal(y, run(op, *inputs, dtype=dtype, **attributes), strict=True)
