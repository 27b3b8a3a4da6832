"""Binary layers as calls of naive nests (see workloads), and what every converter needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from tvm import relax, tirx

from bicompile import workloads
from bicompile.ops import unpack_bits

VECTOR_BYTES = 16
"""What a popcount GEMM reads at once: its rows are a multiple of this, their ends clear."""

_LAYER = "layer:"  # a binary kernel's value is named layer:NODE:KIND, and a number if that exists


def layer_of(name_hint: str) -> str:
    """The ONNX node behind the value of a binary kernel; empty for other values."""
    if not name_hint.startswith(_LAYER):
        return ""
    return name_hint.removeprefix(_LAYER).rpartition(":")[0]


def shape_of(value: Any) -> tuple[int, ...]:
    """The static shape of a Relax value."""
    return tuple(int(dim) for dim in value.ty.shape)


def call(
    builder: Any,
    nest: tirx.PrimFunc,
    inputs: list[Any],
    shape: tuple[int, ...],
    dtype: str,
    layer: str,
) -> Any:
    """Call a nest with one result; the call is noted as part of `layer`, a node's name."""
    return _emit(builder, nest, inputs, relax.TensorType(shape, dtype), layer)


def call_many(
    builder: Any,
    nest: tirx.PrimFunc,
    inputs: list[Any],
    results: Sequence[tuple[tuple[int, ...], str]],
    layer: str,
) -> list[Any]:
    """Call a nest with several results, given as shape and dtype."""
    types = [relax.TensorType(shape, dtype) for shape, dtype in results]
    together = _emit(builder, nest, inputs, types, layer)
    return [builder.emit(relax.TupleGetItem(together, i)) for i in range(len(types))]


def _emit(builder: Any, nest: tirx.PrimFunc, inputs: list[Any], types: Any, layer: str) -> Any:
    kind = str(nest.attrs[workloads.KIND])
    result = relax.call_tir(builder.add_func(nest, kind), inputs, out_ty=types)
    return builder.emit(result, name_hint=f"{_LAYER}{layer}:{kind}")


def reshape(builder: Any, value: Any, shape: tuple[int, ...]) -> Any:
    """The value in another shape of the same elements."""
    return value if shape_of(value) == shape else builder.emit(relax.op.reshape(value, shape))


def name_of(attributes: Any) -> str:
    """The name of the ONNX node that a converter was given."""
    return str(attributes["tvm_custom"]["name"])


@dataclass(frozen=True)
class Convolution:
    """A convolution over height and width; a linear layer is one of a kernel of 1x1.

    Attributes:
        image: (N, H, W, bytes of a pixel), all groups together.
        weights: (O, kh, kw, bytes of a pixel of one group).
        channels: those of one group.
    """

    image: tuple[int, int, int, int]
    weights: np.ndarray
    channels: int
    group: int = 1
    strides: Sequence[int] = (1, 1)
    pads: Sequence[int] = (0, 0, 0, 0)
    dilations: Sequence[int] = (1, 1)

    @property
    def kernel(self) -> tuple[int, int]:
        """kh, kw."""
        return (self.weights.shape[1], self.weights.shape[2])

    @property
    def output(self) -> tuple[int, int]:
        """H', W'."""
        height, width = (
            (self.image[1 + axis] + self.pads[axis] + self.pads[axis + 2] - self._reach(axis))
            // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        return height, width

    def _reach(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    @property
    def rows(self) -> int:
        """N·H'·W'."""
        return self.image[0] * prod(self.output)

    def products(self) -> np.ndarray:
        """What b·w is where no bit differs: () int32, or (1, H', W', O) with padding.

        A padded tap is clear bits in the row: it counts the set bits of the weights there.
        """
        inside = self._taps_inside()
        signs = unpack_bits(self.weights, self.channels)
        signs = signs.reshape(len(signs), prod(self.kernel), self.channels)
        outside_sum = (~inside).astype(np.int32) @ signs.sum(axis=2, dtype=np.int32).T
        products = np.asarray(prod(self.kernel) * self.channels, np.int32)
        if outside_sum.any():
            products = products + outside_sum.reshape(1, *self.output, len(signs))
        return products

    def _taps_inside(self) -> np.ndarray:
        """Whether a tap lies inside the image: (H'·W', kh·kw) bool."""

        def along(axis: int) -> np.ndarray:
            first = np.arange(self.output[axis])[:, None] * self.strides[axis] - self.pads[axis]
            at = first + np.arange(self.kernel[axis]) * self.dilations[axis]
            inside: np.ndarray = (at >= 0) & (at < self.image[1 + axis])
            return inside

        rows, columns = along(0), along(1)
        both: np.ndarray = rows[:, None, :, None] & columns[None, :, None, :]
        return both.reshape(prod(self.output), prod(self.kernel))

    @property
    def used_bytes(self) -> int:
        """Bytes of what one position sees of one group."""
        return prod(self.kernel) * int(self.weights.shape[3])

    def operands(self, builder: Any, bits: Any, name: str) -> tuple[Any, np.ndarray]:
        """Both sides of the product, rows padded to whole vectors: patches and filters."""
        outputs, used = len(self.weights), self.used_bytes
        row_bytes = -(-used // VECTOR_BYTES) * VECTOR_BYTES
        padded = np.zeros((outputs, row_bytes), np.uint8)
        padded[:, :used] = self.weights.reshape(outputs, used)
        return self._patches(builder, bits, row_bytes, name), padded

    def popcounts(self, builder: Any, bits: Any, name: str) -> Any:
        """Differing bits between every patch and every filter: (N·H'·W', O) int32."""
        operand, weights = self.operands(builder, bits, name)
        outputs, row_bytes = weights.shape
        if self.group == 1:
            nest = workloads.popcount_gemm(
                self.rows, outputs, row_bytes, used_bytes=self.used_bytes
            )
        else:
            nest = workloads.grouped_popcount_gemm(
                self.group, self.rows, outputs // self.group, row_bytes
            )
        inputs = [operand, relax.const(weights)]
        return call(builder, nest, inputs, (self.rows, outputs), "int32", name)

    def _patches(self, builder: Any, bits: Any, row_bytes: int, name: str) -> Any:
        """Rows of what each position sees, group after group: (G·N·H'·W', row_bytes) bits."""
        batch, height, width, pixel_bytes = self.image
        shape = (self.group * self.rows, row_bytes)
        sees_itself = self.kernel == (1, 1) and self.output == (height, width)
        if sees_itself and shape == (self.rows, pixel_bytes) and not any(self.pads):
            return reshape(builder, bits, shape)
        nest = workloads.patches(
            self.image,
            self.kernel,
            self.output,
            groups=self.group,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            row_bytes=row_bytes,
        )
        pixels = reshape(builder, bits, (batch * height, width * pixel_bytes))
        return call(builder, nest, [pixels], shape, "uint8", name)

    def _depthwise(self, builder: Any, bits: Any, name: str) -> Any:
        output = (*self.output, len(self.weights))
        nest = workloads.depthwise(
            self.image,
            self.kernel,
            output,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
        )
        taps = np.ascontiguousarray(self.weights[..., 0].transpose(1, 2, 0))
        inputs = [reshape(builder, bits, self.image), relax.const(taps)]
        return call(builder, nest, inputs, (self.image[0], *output), "int32", name)

    def dot(self, builder: Any, bits: Any, shape: tuple[int, ...], name: str) -> Any:
        """b·w as int32 of `shape`, which is (N, H', W', O) or has the same elements."""
        if self.channels == 1 and self.group > 1:
            return reshape(builder, self._depthwise(builder, bits, name), shape)
        popcounts = self.popcounts(builder, bits, name)
        products = self.products()
        whole = (self.image[0], *self.output, len(self.weights)) if products.ndim else shape
        popcounts = reshape(builder, popcounts, whole)
        twice = relax.op.add(popcounts, popcounts)
        result = builder.emit(relax.op.subtract(relax.const(products), twice))
        return reshape(builder, result, shape)
