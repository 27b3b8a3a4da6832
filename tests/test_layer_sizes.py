import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from bicompile.layer_sizes import Size, size_of
from bicompile.ops import DOMAIN


def size(op: str, *shapes: tuple[int, ...], domain: str = "", **attributes: Any) -> Size | None:
    """Of a node whose inputs, then output, have these shapes."""
    names = [f"v{index}" for index in range(len(shapes))]
    node = helper.make_node(op, names[:-1], names[-1:], domain=domain, **attributes)
    return size_of(node, dict(zip(names, shapes, strict=True)))


def test_a_convolution_sums_over_its_kernel_and_the_channels_of_a_group() -> None:
    assert size("Conv", (1, 6, 9, 9), (4, 3, 5, 5), (1, 4, 5, 5), group=2) == Size(75, 75 * 100)


def test_a_depthwise_convolution_sums_over_its_kernel() -> None:
    assert size("Conv", (1, 6, 9), (6, 1, 5), (1, 6, 5), group=6) == Size(5, 150)


def test_a_quantized_convolution_has_its_weights_at_the_fourth_input() -> None:
    scales = [(), ()]
    shapes = [(1, 6, 9), *scales, (4, 6, 3), *scales, *scales]
    assert size("QLinearConv", *shapes, (1, 4, 7)) == Size(18, 18 * 28)


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_multiplies_every_input_with_a_kernel(group: int) -> None:
    weights = (4, 6 // group, 3, 3)
    expected = Size(4 // group * 9, 4 * 25 * 6 // group * 9)
    assert size("ConvTranspose", (1, 4, 5, 5), weights, (1, 6, 11, 11), group=group) == expected


@pytest.mark.parametrize(
    ("left", "right"), [((5,), (5,)), ((2, 5), (5, 3)), ((4, 1, 2, 5), (3, 5, 6)), ((5,), (5, 3))]
)
def test_a_matmul_sums_over_the_last_axis_of_its_left_side(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    output = np.matmul(np.zeros(left), np.zeros(right)).shape
    assert size("MatMul", left, right, output) == Size(5, 5 * math.prod(output))


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_sums_over_what_its_sides_share(transposed: int) -> None:
    left = (5, 2) if transposed else (2, 5)
    assert size("Gemm", left, (5, 3), (2, 3), transA=transposed) == Size(5, 30)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bik, kj -> bij", [(2, 3, 5), (5, 4)]),
        ("ik,jk", [(3, 5), (4, 5)]),
        ("...k,kj->...j", [(2, 3, 5), (5, 4)]),
        ("...ik,...kj->...ij", [(7, 1, 3, 5), (2, 5, 4)]),
        ("bkhw,okhw->bo", [(2, 3, 4, 5), (6, 3, 4, 5)]),
    ],
)
def test_an_einsum_sums_over_what_its_output_lacks(
    equation: str, shapes: list[tuple[int, ...]]
) -> None:
    operands = [np.ones(shape) for shape in shapes]
    result = np.einsum(equation, *operands)
    found = size("Einsum", *shapes, result.shape, equation=equation)
    assert found == Size(int(result.flat[0]), int(result.sum()))


@pytest.mark.parametrize(
    ("equation", "shapes", "output"),
    [
        ("ij->ji", [(2, 3)], (3, 2)),
        ("ij->i", [(2, 3)], (2,)),
        ("ij,ij->ij", [(2, 3), (2, 3)], (2, 3)),
    ],
)
def test_an_einsum_without_sums_of_products_is_no_layer(
    equation: str, shapes: list[tuple[int, ...]], output: tuple[int, ...]
) -> None:
    assert size("Einsum", *shapes, output, equation=equation) is None


def test_a_binary_op_counts_bits_not_bytes() -> None:
    assert size(
        "BinaryConv2d", (1, 4, 4, 2), (3, 5, 5, 2), (1, 2, 2, 3), domain=DOMAIN, channels=9
    ) == Size(225, 225 * 12)
    assert size("BinaryLinear", (1, 2), (3, 2), (1, 3), domain=DOMAIN, channels=9) == Size(9, 27)


def test_other_nodes_are_no_layers() -> None:
    assert size("Relu", (1, 4), (1, 4)) is None
    assert size("Threshold", (1, 4), (4,), (1, 1), domain=DOMAIN) is None


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    group=st.integers(1, 3),
)
def test_a_convolution_of_ones_counts_its_own_products(
    sizes: tuple[int, int], kernel: tuple[int, int], channels: int, outputs: int, group: int
) -> None:
    x, weights = (1, channels * group, *sizes), (outputs * group, channels, *kernel)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=group)
    ones = [np.ones(shape, np.float32) for shape in (x, weights)]
    (result,) = onnx.reference.ReferenceEvaluator(node).run(
        None, dict(zip("xw", ones, strict=True))
    )
    found = size_of(node, {"x": x, "w": weights, "y": result.shape})
    assert found == Size(int(result.flat[0]), int(result.sum()))
