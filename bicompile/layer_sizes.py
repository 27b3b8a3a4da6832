"""How much arithmetic a convolution or matrix product is: counted from shapes alone."""

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from bicompile.ops import DOMAIN

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """Padding counts as what it is padded to.

    Attributes:
        products: of one sum, where no border is in the way.
        multiply_accumulates: of one run.
    """

    products: int
    multiply_accumulates: int


def may_be_layer(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution or a matrix product; of an Einsum its shapes must tell."""
    if node.domain == DOMAIN:
        return bool(node.op_type.startswith("Binary"))
    return node.op_type in _MEASURES


def size_of(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Size | None:
    """The size of a layer, given the shape of every value; None for any other node.

    An Einsum is a layer where it sums products of two tensors.
    """
    if not may_be_layer(node):
        return None
    measure = _binary if node.domain == DOMAIN else _MEASURES[node.op_type]
    return measure(node, [shapes.get(name, ()) for name in node.input], shapes[node.output[0]])


Measure = Callable[[onnx.NodeProto, Sequence[Shape], Shape], Size | None]


def _conv(weights: int) -> Measure:
    """(O, C / groups, *kernel) weights at this input."""

    def measure(_: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> Size:
        return _sized(math.prod(inputs[weights][1:]), output)

    return measure


def _conv_transpose(node: onnx.NodeProto, inputs: Sequence[Shape], _: Shape) -> Size:
    """(C, O / groups, *kernel) weights: every number of x meets all but the first axis."""
    x, weights = inputs[:2]
    channels = weights[0] // int(_attribute(node, "group", 1))
    return Size(channels * math.prod(weights[2:]), math.prod(x) * math.prod(weights[1:]))


def _matmul(_: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> Size:
    return _sized(inputs[0][-1], output)


def _gemm(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> Size:
    return _sized(inputs[0][0 if _attribute(node, "transA", 0) else 1], output)


def _binary(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> Size:
    """(O, *kernel, bytes) weights; the attribute `channels` says how many bits are in use."""
    return _sized(math.prod(inputs[1][1:-1]) * int(_attribute(node, "channels", 0)), output)


def _einsum(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape) -> Size | None:
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.partition("->")[0].split(","), inputs, strict=True):
        before, dots, after = term.partition("...")
        broadcast = len(shape) - len(before) - len(after) if dots else 0
        letters = [*before, *string.digits[10 - broadcast :], *after]
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    every = math.prod(sizes.values())
    products = every // (math.prod(output) or 1)
    return Size(products, every) if len(inputs) > 1 and products > 1 else None


def _sized(products: int, output: Shape) -> Size:
    return Size(products, products * math.prod(output))


def _attribute(node: onnx.NodeProto, name: str, default: int | bytes) -> Any:
    given = next((each for each in node.attribute if each.name == name), None)
    return default if given is None else onnx.helper.get_attribute_value(given)


_MEASURES: dict[str, Measure] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "ConvTranspose": _conv_transpose,
    "DeformConv": _conv(1),
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearConv": _conv(3),
    "QLinearMatMul": _matmul,
}
