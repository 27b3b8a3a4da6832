"""Binary layers as calls of naive nests (see workloads), and what every converter needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from tvm import relax, tirx

from bicompile import workloads
from bicompile.ops import unpack_bits
from bicompile.schedules.popcount_conv import reads_image

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
        border: what `pads` add, 0 or the +1 or −1 of a bit.
    """

    image: tuple[int, int, int, int]
    weights: np.ndarray
    channels: int
    group: int = 1
    strides: Sequence[int] = (1, 1)
    pads: Sequence[int] = (0, 0, 0, 0)
    border: int = 0
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
        """What b·w is where no bit differs: () int32, or (1, H', W', O) with a border.

        A tap outside is clear bits in the row, each counted as −1: for another border its weights
        are added once or twice.
        """
        products = np.asarray(prod(self.kernel) * self.channels, np.int32)
        outside = (self.border + 1) * self._outside_sums()
        return products + outside if outside.any() else products

    def _outside_sums(self) -> np.ndarray:
        """The sum of the weights that lie outside the image: (1, H', W', O) int32."""
        signs = unpack_bits(self.weights, self.channels)
        signs = signs.reshape(len(signs), prod(self.kernel), self.channels)
        sums = (~self._taps_inside()).astype(np.int32) @ signs.sum(axis=2, dtype=np.int32).T
        outside: np.ndarray = sums.reshape(1, *self.output, len(signs))
        return outside

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

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a popcount GEMM: whole vectors."""
        return -(-self.used_bytes // VECTOR_BYTES) * VECTOR_BYTES

    @property
    def filters(self) -> np.ndarray:
        """The weights as rows: (O, row_bytes) bits."""
        padded = np.zeros((len(self.weights), self.row_bytes), np.uint8)
        padded[:, : self.used_bytes] = self.weights.reshape(len(self.weights), -1)
        return padded

    def patches(self) -> tirx.PrimFunc | None:
        """The nest that lays out what each position sees; None where an image is its own rows."""
        _, height, width, pixel_bytes = self.image
        sees_itself = self.kernel == (1, 1) and self.output == (height, width)
        is_row = (self.group, self.row_bytes) == (1, pixel_bytes)
        if sees_itself and is_row and not any(self.pads):
            return None
        return workloads.patches(
            self.image,
            self.kernel,
            self.output,
            groups=self.group,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            row_bytes=self.row_bytes,
        )

    def gathered(self, planes: int = 0) -> tirx.PrimFunc | None:
        """The patches, where a kernel is to read the image instead and lay out none.

        With `planes` it has an epilogue, which takes planes of one image.
        """
        patches = self.patches() if self.group == 1 else None
        if patches is None or (planes and self.image[0] != planes):
            return None
        return patches if reads_image(patches, len(self.weights)) else None

    def popcounts(self, builder: Any, bits: Any, name: str) -> Any:
        """Differing bits between every patch and every filter: (N·H'·W', O) int32."""
        outputs = len(self.weights)
        patches = self.gathered()
        if patches is not None:
            nest = workloads.popcount_conv(patches, outputs, used_bytes=self.used_bytes)
        elif self.group == 1:
            nest = workloads.popcount_gemm(
                self.rows, outputs, self.row_bytes, used_bytes=self.used_bytes
            )
        else:
            nest = workloads.grouped_popcount_gemm(
                self.group, self.rows, outputs // self.group, self.row_bytes
            )
        inputs = [self.operand(builder, bits, patches, name), relax.const(self.filters)]
        return call(builder, nest, inputs, (self.rows, outputs), "int32", name)

    def operand(self, builder: Any, bits: Any, gathered: tirx.PrimFunc | None, name: str) -> Any:
        """The image's bits where a kernel gathers them, else patches: (G·N·H'·W', row_bytes)."""
        batch, height, width, pixel_bytes = self.image
        pixels = reshape(builder, bits, (batch * height, width * pixel_bytes))
        shape = (self.group * self.rows, self.row_bytes)
        if gathered is not None:
            return pixels
        patches = self.patches()
        if patches is None:
            return reshape(builder, bits, shape)
        return call(builder, patches, [pixels], shape, "uint8", name)

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
            result = self._depthwise(builder, bits, name)
            outside = self.border * self._outside_sums()  # the nest leaves them out
            if outside.any():
                result = builder.emit(relax.op.add(result, relax.const(outside)))
            return reshape(builder, result, shape)
        popcounts = self.popcounts(builder, bits, name)
        products = self.products()
        whole = (self.image[0], *self.output, len(self.weights)) if products.ndim else shape
        popcounts = reshape(builder, popcounts, whole)
        twice = relax.op.add(popcounts, popcounts)
        result = builder.emit(relax.op.subtract(relax.const(products), twice))
        return reshape(builder, result, shape)
