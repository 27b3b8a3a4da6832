"""The ops of the domain for TVM's importer: each becomes calls of naive nests (see workloads)."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from bicompile import workloads
from bicompile.convolution import Convolution, call, name_of, reshape, shape_of


class _Threshold(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        x, theta = inputs
        *leading, channels = shape_of(x)
        rows, groups = prod(leading), int(attributes["group"])
        thresholds = theta.value.numpy()
        uniform = bool((thresholds == thresholds[0]).all())
        if uniform:
            theta = relax.const(thresholds[:1])
        nest = workloads.threshold(
            rows,
            channels // groups,
            groups=groups,
            greater=bool(attributes["greater"]),
            uniform=uniform,
        )
        flat = reshape(builder, x, (rows, channels))
        row_bytes = groups * -(-channels // groups // 8)
        bits = call(builder, nest, [flat, theta], (rows, row_bytes), "uint8", name_of(attributes))
        return reshape(builder, bits, (*leading, row_bytes))


class BinaryLayer(onnx_frontend.OnnxOpConverter):
    """A binary layer: its bits and its constant weights → int32."""

    @staticmethod
    def read(
        bits: tuple[int, ...], weights: np.ndarray, attributes: Any
    ) -> tuple[Convolution, tuple[int, ...]]:
        """The layer for bits of a shape, and the shape of its result."""
        raise NotImplementedError

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        layer, shape = cls.read(shape_of(inputs[0]), inputs[1].value.numpy(), attributes)
        return layer.dot(builder, inputs[0], shape, name_of(attributes))


class _BinaryLinear(BinaryLayer):
    @staticmethod
    def read(
        bits: tuple[int, ...], weights: np.ndarray, attributes: Any
    ) -> tuple[Convolution, tuple[int, ...]]:
        *leading, row_bytes = bits
        outputs = len(weights)
        layer = Convolution(
            (1, prod(leading), 1, row_bytes),
            weights.reshape(outputs, 1, 1, row_bytes),
            int(attributes["channels"]),
        )
        return layer, (*leading, outputs)


class _BinaryConv1d(BinaryLayer):
    @staticmethod
    def read(
        bits: tuple[int, ...], weights: np.ndarray, attributes: Any
    ) -> tuple[Convolution, tuple[int, ...]]:
        batch, length, pixel_bytes = bits
        left, right = attributes["pads"]
        layer = Convolution(
            (batch, 1, length, pixel_bytes),
            weights[:, None],
            int(attributes["channels"]),
            int(attributes["group"]),
            (1, *attributes["strides"]),
            (0, left, 0, right),
            int(attributes["border"]),
            (1, *attributes["dilations"]),
        )
        return layer, (batch, layer.output[1], len(weights))


class _BinaryConv2d(BinaryLayer):
    @staticmethod
    def read(
        bits: tuple[int, ...], weights: np.ndarray, attributes: Any
    ) -> tuple[Convolution, tuple[int, ...]]:
        batch, height, width, pixel_bytes = bits
        layer = Convolution(
            (batch, height, width, pixel_bytes),
            weights,
            int(attributes["channels"]),
            int(attributes["group"]),
            attributes["strides"],
            attributes["pads"],
            int(attributes["border"]),
            attributes["dilations"],
        )
        return layer, (batch, *layer.output, len(weights))


CONVERTERS: Mapping[str, type[onnx_frontend.OnnxOpConverter]] = {
    "Threshold": _Threshold,
    "BinaryLinear": _BinaryLinear,
    "BinaryConv1d": _BinaryConv1d,
    "BinaryConv2d": _BinaryConv2d,
}
