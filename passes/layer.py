"""A convolution, matmul or Gemm with binary weights, read so that channels come last."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bicompile.passes.binary_sum import NotBinaryError
from bicompile.passes.binary_weights import BinaryWeights
from bicompile.passes.graph import constant, ints, produced_by, scalar, shape_of

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """What a convolution sees; one number an axis, `pads` first all begins, then all ends.

    What lies outside its input is `border`: 0, or the +1 or −1 that bits stand for.
    """

    strides: Axes
    pads: Axes
    dilations: Axes
    group: int
    border: int = 0


@dataclass(frozen=True)
class Layer:
    """result = Σ over the window and channels of x·W, + bias.

    The result is channels-last: positions, then outputs. Transposed by `back` and reshaped to the
    node's output it is what the node gives.

    Attributes:
        node: the layer.
        x: its computed input.
        perm: the axes of x in channels-last order.
        back: the axes of the result in the order of the node's output.
        weights: (O, *kernel, C); C is what one group takes in.
        bias: broadcasts against the result; float64, None where there is none.
        window: None where every position of the result sees one of x.
    """

    node: ir.Node
    x: ir.Value
    perm: Axes
    back: Axes
    weights: BinaryWeights
    bias: NDArray[np.float64] | None = None
    window: Window | None = None

    @property
    def outputs(self) -> int:
        """O."""
        return len(self.weights.signs)

    @property
    def kernel(self) -> Axes:
        """The size of the window along every axis of positions; of a matrix ()."""
        return self.weights.signs.shape[1:-1]

    @property
    def channels(self) -> int:
        """C."""
        return int(self.weights.signs.shape[-1])

    @property
    def products(self) -> int:
        """How many products one sum has away from borders."""
        return math.prod(self.kernel) * self.channels

    @property
    def result_shape(self) -> Axes:
        """The shape of the channels-last result."""
        if self.window is None:
            positions = [shape_of(self.x)[axis] for axis in self.perm[:-1]]
        else:
            output = shape_of(self.node.outputs[0])
            positions = [output[0], *output[2:]]
        return (*positions, self.outputs)

    @property
    def summed_axes(self) -> Axes:
        """Axes of x, negative, along which a scale must be constant to come out of the sum."""
        rank = len(self.perm)
        if self.window is None:
            return (self.perm[-1] - rank,)
        spatial = range(len(self.window.strides))
        seen = [a + 2 - rank for a in spatial if not self._passes_through(a)]
        return tuple(seen) if self.channels == 1 else (1 - rank, *seen)

    def _passes_through(self, axis: int) -> bool:
        """Whether a position along a spatial axis sees the same position of x only."""
        assert self.window is not None
        rank = len(self.window.strides)
        pads = self.window.pads[axis], self.window.pads[axis + rank]
        return (self.kernel[axis], self.window.strides[axis], *pads) == (1, 1, 0, 0)


def weights_of(node: ir.Node) -> np.ndarray:
    """The constant operand of a layer, outputs first.

    Raises NotBinaryError where there is none.
    """
    weights = constant(node.inputs[1])
    on_the_left = weights is None and node.op_type in ("MatMul", "Gemm")
    if on_the_left:
        weights = constant(node.inputs[0])
    if weights is None:
        raise NotBinaryError("its weights are not constant")
    if node.op_type == "Conv":
        return np.moveaxis(weights, 1, -1)
    if node.op_type == "ConvTranspose":
        return np.moveaxis(weights, 0, -1)
    if weights.ndim == 1:
        return weights[None]
    if node.op_type == "Gemm":
        transposed = _flag(node, "transA" if on_the_left else "transB")
    else:
        transposed = False
    if transposed == on_the_left:
        weights = np.swapaxes(weights, -1, -2)
    is_one = math.prod(weights.shape[:-2]) == 1
    return weights.reshape(weights.shape[-2:]) if is_one else weights


def read_layer(node: ir.Node, weights: BinaryWeights) -> Layer:
    """Read a node whose `weights_of` are these.

    Raises NotBinaryError where no binary op computes such a layer.
    """
    if node.op_type == "ConvTranspose":
        raise NotBinaryError("a transposed convolution has no binary kernel")
    if node.op_type == "Conv":
        return _convolution(node, weights)
    stack = weights.signs.shape[:-2]
    if stack:
        raise NotBinaryError(
            f"its weights are a stack of {math.prod(stack)} matrices, one is needed"
        )
    return _product(node, weights)


def _product(node: ir.Node, weights: BinaryWeights) -> Layer:
    """MatMul or Gemm, with the weights on either side."""
    on_the_left = constant(node.inputs[1]) is None
    x = node.inputs[1] if on_the_left else node.inputs[0]
    assert x is not None
    rank = len(shape_of(x))
    plain = tuple(range(rank))
    swapped = (*plain[:-2], *plain[:-3:-1])
    back = swapped if on_the_left else plain
    if node.op_type == "MatMul":
        return Layer(node, x, back, back, weights)
    turned = _flag(node, "transB" if on_the_left else "transA") != on_the_left
    bias = _bias(node)
    if bias is not None:
        bias = bias * _number(node, "beta")
        if on_the_left:
            bias = np.atleast_2d(bias).T
    perm = swapped if turned else plain
    weights = BinaryWeights(weights.signs, weights.scale * _number(node, "alpha"))
    return Layer(node, x, perm, back, weights, bias)


def _convolution(node: ir.Node, weights: BinaryWeights) -> Layer:
    x = node.inputs[0]
    assert x is not None
    rank = len(shape_of(x))
    spatial = rank - 2
    perm, back = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    group = node.attributes.get("group")
    strides = ints(node, "strides", [1] * spatial)
    dilations = ints(node, "dilations", [1] * spatial)
    kernel = weights.signs.shape[1:-1]
    pads = _pads(node, kernel, strides, dilations)
    if min(pads, default=0) < 0:
        raise NotBinaryError("its padding is negative")
    # Zeros around a sum of signs are no bits, but the convolution's own padding is the same.
    while (padded := constant_padding(x)) is not None and padded.value == 0:
        x, more = padded.x, padded.pads
        pads = tuple(a + b for a, b in zip(pads, more, strict=True))
    window: Window | None = Window(strides, pads, dilations, 1 if group is None else group.as_int())
    unmoved = Window((1,) * spatial, (0,) * 2 * spatial, dilations, 1)
    if math.prod(kernel) == 1 and window == unmoved:
        window = None
    elif spatial not in (1, 2):
        raise NotBinaryError(
            f"its kernel of {'x'.join(map(str, kernel))} spans {spatial} axes; one or two are "
            "known, or a kernel of 1 without strides, padding and groups"
        )
    return Layer(node, x, perm, back, weights, _bias(node), window)


def _pads(node: ir.Node, kernel: Axes, strides: Axes, dilations: Axes) -> Axes:
    """The padding of a convolution in numbers, also where it is automatic."""
    rank = len(kernel)
    attribute = node.attributes.get("auto_pad")
    automatic = "NOTSET" if attribute is None else attribute.as_string()
    if automatic == "NOTSET":
        return ints(node, "pads", [0] * 2 * rank)
    if automatic == "VALID":
        return (0,) * 2 * rank
    assert node.inputs[0] is not None
    sizes = shape_of(node.inputs[0])[2:]
    begins, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        # SAME means ceil(size / stride) results.
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(more if automatic == "SAME_LOWER" else less)
        ends.append(less if automatic == "SAME_LOWER" else more)
    return (*begins, *ends)


@dataclass(frozen=True)
class Padding:
    """A Pad of `x` around the positions with one number; `pads` first all begins, then all ends."""

    x: ir.Value
    value: float
    pads: Axes


def constant_padding(x: ir.Value) -> Padding | None:
    """Read the Pad that gives x; None where it is none of that kind."""
    node = produced_by(x, "Pad")
    if node is None or node.inputs[0] is None:
        return None
    mode = node.attributes.get("mode")
    value = scalar(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    pads = constant(node.inputs[1])
    if (mode is not None and mode.as_string() != "constant") or pads is None or value is None:
        return None
    rank = len(shape_of(x))
    axes: np.ndarray | None = np.arange(rank)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = constant(node.inputs[3])
    if axes is None:
        return None
    begins, ends = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    begins[axes], ends[axes] = np.split(pads, 2)
    if begins[:2].any() or ends[:2].any() or min(*begins, *ends) < 0:
        return None
    return Padding(node.inputs[0], value, (*begins[2:].tolist(), *ends[2:].tolist()))


def _bias(node: ir.Node) -> NDArray[np.float64] | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = constant(node.inputs[2])
    if bias is None:
        raise NotBinaryError("its bias is not constant")
    return bias.astype(np.float64)


def _flag(node: ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and bool(attribute.as_int())


def _number(node: ir.Node, name: str) -> float:
    attribute = node.attributes.get(name)
    return 1.0 if attribute is None else attribute.as_float()
