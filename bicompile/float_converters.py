"""The converter of a float layer with its epilogue (see fuse_floats)."""

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.relax.frontend.onnx import onnx_frontend

from bicompile import float_workloads
from bicompile.convolution import call, name_of, reshape, shape_of
from bicompile.fuse_floats import FLOAT_LAYER


class _FloatLayer(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        x, weights, *others = inputs
        *kernel, _, outputs = shape_of(weights)
        group, pads = int(attributes["group"]), [int(pad) for pad in attributes["pads"]]
        strides, dilations = ([int(n) for n in attributes[k]] for k in ("strides", "dilations"))
        name, bend = name_of(attributes), _text(attributes["bend"])
        shape = shape_of(x)
        channels = shape[-1]
        is_dense = kernel == [1, 1] and strides == [1, 1] and not any(pads) and group == 1
        # A window of one position sees every position alike, whatever its line.
        image = (1, prod(shape[:-1])) if is_dense else (prod(shape[1:-2]), shape[-2])
        if any(pads):
            nest = float_workloads.frame((*image, channels), pads)
            image = image[0] + pads[0] + pads[2], image[1] + pads[1] + pads[3]
            flat = reshape(builder, x, (prod(shape[1:-2]), shape[-2] * channels))
            framed = (image[0], image[1] * channels)
            x = call(builder, nest, [flat], framed, "float32", name)
        rows, columns = (
            (image[a] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1 for a in (0, 1)
        )
        result = (rows, columns, outputs)
        nest = float_workloads.float_layer(
            (*image, channels),
            (kernel[0], kernel[1]),
            result,
            strides=strides,
            dilations=dilations,
            depthwise=group > 1,
            bend=bend,
            residual=bool(attributes["residual"]),
        )
        operands = [reshape(builder, x, (*image, channels)), weights, *others]
        if attributes["residual"]:
            operands[-1] = reshape(builder, operands[-1], result)
        y = call(builder, nest, operands, result, "float32", name)
        leading = shape[:-1] if is_dense else (1, *result[2 - len(shape[1:-1]) : 2])
        return reshape(builder, y, (*leading, outputs))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


CONVERTERS: Mapping[str, type[onnx_frontend.OnnxOpConverter]] = {FLOAT_LAYER: _FloatLayer}
