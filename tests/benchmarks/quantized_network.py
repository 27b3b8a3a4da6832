"""The float network as onnxruntime runs it in int8: static QDQ, as its own tools make it."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from bicompile.calibration import DEFAULT, read_calibration


class _Inputs(CalibrationDataReader):
    def __init__(self, name: str, inputs: np.ndarray) -> None:
        self._feeds = iter([{name: x} for x in inputs])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def with_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with ReLU for PReLU, as onnxruntime's int8 kernels have it."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if node.op_type == "PRelu":
            node.op_type = "Relu"
            del node.input[1:]
    return changed


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Int8 activations, int8 weights with a scale an output, calibrated on the zoo's clips.

    What has no int8 kernel, as PReLU, is computed in floats between a dequantization and the next
    quantization; a ReLU becomes part of the layer before it.
    """
    given = model.graph.input[0]
    shape = tuple(dim.dim_value for dim in given.type.tensor_type.shape.dim)
    with tempfile.TemporaryDirectory() as name:
        before, ready, after = (Path(name) / part for part in ("float", "ready", "int8"))
        onnx.save(model, before)
        quant_pre_process(before, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            after,
            _Inputs(given.name, read_calibration(DEFAULT, shape)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(after)
