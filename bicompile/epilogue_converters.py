"""Converters of dual-scale binarization and epilogues, alone or fused."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.frontend.onnx import onnx_frontend

from bicompile import dual_workloads, workloads
from bicompile.converters import CONVERTERS as LAYERS
from bicompile.converters import BinaryLayer
from bicompile.convolution import Convolution, call, call_many, name_of, reshape, shape_of
from bicompile.dual_workloads import Mean, Steps
from bicompile.fuse import DUAL_DEPTHWISE, EPILOGUES, ONE_CHANNEL, SIGNS, fused_op
from bicompile.fuse import LAYERS as FUSED_LAYERS
from bicompile.second_signs import moved, sides
from bicompile.sign_converters import IntegerThreshold, Signs

_LANES = 4
"""Floats in a vector: a product is fused with its epilogue where rows of results are whole ones."""


class _DualScale(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        shape = shape_of(inputs[0])
        *leading, channels = shape
        rows, groups = prod(leading), int(attributes["group"])
        row_bytes = groups * -(-channels // groups // 8)
        planes_shape = (2 * leading[0], *leading[1:], row_bytes)
        kept = tuple(1 if i in attributes["axes"] else n for i, n in enumerate(shape))
        greater = (bool(attributes["greater"]), bool(attributes["greater2"]))
        mean = _mean(kept, shape)
        if mean is None:
            return _dual_scale_in_steps(builder, inputs, attributes, planes_shape)
        thresholds = [value.value.numpy() for value in inputs[1:]]
        uniform = all(array.min() == array.max() for array in thresholds)
        nest = dual_workloads.dual_scale(
            rows,
            channels // groups,
            groups=groups,
            greater=greater,
            mean=mean,
            same=_is_read_from_x(*thresholds[1:], greater=greater[1], uniform=uniform),
            uniform=uniform,
        )
        numbers = 1 if uniform else channels
        flat = [reshape(builder, inputs[0], (rows, channels))]
        flat += [relax.const(array[:numbers]) for array in thresholds]
        results = [((2 * rows, row_bytes), "uint8"), ((prod(kept),), "float32")]
        planes, scale = call_many(builder, nest, flat, results, name_of(attributes))
        outputs = reshape(builder, planes, planes_shape), reshape(builder, scale, kept)
        return relax.Tuple(outputs)


def _is_read_from_x(shift: np.ndarray, theta2: np.ndarray, *, greater: bool, uniform: bool) -> bool:
    """Whether x itself tells the second sign: see second_signs."""
    found = sides if uniform else moved
    return np.array_equal(shift, theta2) and found(shift, greater=greater) is not None


def _mean(kept: tuple[int, ...], shape: tuple[int, ...]) -> Mean | None:
    """What the mean of a nest takes in, by the shape that is left of x; None for another."""
    left = prod(kept)
    if kept[:-1] == shape[:-1] and kept[-1] == 1:
        return "row"
    if left == 1:
        return "all"
    return "channel" if left == kept[-1] == shape[-1] else None


def _dual_scale_in_steps(
    builder: Any, inputs: Any, attributes: Any, planes_shape: tuple[int, ...]
) -> Any:
    x, theta, shift, theta2 = inputs
    greater = (bool(attributes["greater"]), bool(attributes["greater2"]))
    compare = relax.op.greater_equal if greater[0] else relax.op.less_equal
    one, minus = (relax.const(np.float32(sign)) for sign in (1, -1))
    rest = builder.normalize(
        relax.op.subtract(x, builder.normalize(relax.op.where(compare(x, theta), one, minus)))
    )
    rest = builder.emit(rest)
    size = builder.normalize(relax.op.abs(relax.op.subtract(rest, shift)))
    scale = builder.emit(relax.op.mean(size, [int(i) for i in attributes["axes"]], keepdims=True))
    channels, groups = shape_of(x)[-1], int(attributes["group"])
    rows = prod(planes_shape[:-1]) // 2
    planes = []
    for value, threshold, direction in ((x, theta, greater[0]), (rest, theta2, greater[1])):
        nest = workloads.threshold(rows, channels // groups, groups=groups, greater=direction)
        flat = reshape(builder, value, (rows, channels))
        shape = (rows, planes_shape[-1])
        name = name_of(attributes)
        planes.append(call(builder, nest, [flat, threshold], shape, "uint8", name))
    both = builder.emit(relax.op.concat(planes, axis=0))
    return relax.Tuple([reshape(builder, both, planes_shape), scale])


def _epilogue(builder: Any, accumulator: Any, operands: Any, planes: int) -> Any:
    """The epilogue in elementwise steps, which TVM fuses by itself."""
    scale, multiplier, shift, slope, residual = operands
    total = builder.normalize(relax.op.astype(accumulator, "float32"))
    if planes == 1:
        total = relax.op.multiply(total, scale)
    else:
        first, second = builder.emit(relax.op.split(total, planes, axis=0))
        total = relax.op.add(first, relax.op.multiply(second, scale))
    total = builder.normalize(relax.op.add(relax.op.multiply(total, multiplier), shift))
    below = relax.op.multiply(total, slope)
    zero = relax.const(np.float32(0))
    total = relax.op.where(relax.op.less(total, zero), below, total)
    return builder.emit(relax.op.add(total, residual))


class _Epilogue(onnx_frontend.OnnxOpConverter):
    planes = 1

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, _attributes: Any, _parameters: Any) -> Any:
        return _epilogue(builder, inputs[0], inputs[1:], cls.planes)


class _DualEpilogue(_Epilogue):
    planes = 2


class _Fused(onnx_frontend.OnnxOpConverter):
    """A layer with its epilogue (see fuse): one nest where it can be, else one after the other."""

    layer: type[BinaryLayer]
    planes: int

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        bits, weights = inputs[0], inputs[1].value.numpy()
        layer, shape = cls.layer.read(shape_of(bits), weights, attributes)
        name = name_of(attributes)
        result = (shape[0] // cls.planes, *shape[1:])
        try:
            steps, operands = _read_steps(layer, cls.planes, inputs[2:], result)
        except _NotFusedError:
            accumulator = layer.dot(builder, bits, shape, name)
            return _epilogue(builder, accumulator, inputs[2:], cls.planes)
        rows, outputs = layer.rows // cls.planes, len(weights)
        patches, filters = layer.gathered(cls.planes), layer.filters
        products = layer.products()
        nest = dual_workloads.popcount_epilogue(
            rows,
            outputs,
            filters.shape[1],
            used_bytes=layer.used_bytes,
            planes=cls.planes,
            products=None if products.ndim else int(products),
            steps=steps,
            patches=patches,
        )
        if products.ndim:
            every = np.broadcast_to(products, (layer.image[0] // cls.planes, *products.shape[1:]))
            operands.insert(0, (every, (rows, outputs)))
        given = [layer.operand(builder, bits, patches, name), relax.const(filters)]
        given += [_reshaped(builder, value, wanted) for value, wanted in operands]
        y = call(builder, nest, given, (rows, outputs), "float32", name)
        return reshape(builder, y, result)


class _DualDepthwise(onnx_frontend.OnnxOpConverter):
    """A depthwise layer of two planes with all around it; see fuse.DUAL_DEPTHWISE."""

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        x, *constants = inputs
        theta, move, theta2, weights, multiplier, shift, slope = map(_constant, constants)
        _, frames, channels = shape_of(x)
        thresholds = np.stack([_per_output(row, channels) for row in (theta, move, theta2)])
        if (thresholds == thresholds[:, :1]).all():
            thresholds = np.array(thresholds[:, :1])
        factors = _one_or_each(multiplier, channels)
        finish = [np.array(row) for row in (factors, _per_output(shift, channels))]
        taps = np.array(weights[..., 0].T, order="C")
        nest = dual_workloads.dual_depthwise(
            frames,
            channels,
            len(taps),
            pads=tuple(attributes["pads"]),
            greater=(bool(attributes["greater"]), bool(attributes["greater2"])),
            residual=bool(attributes["residual"]),
            thresholds=thresholds.shape[1],
            multipliers=factors.size,
            same=np.array_equal(thresholds[1], thresholds[2]),
        )
        flat = [reshape(builder, x, (frames, channels)), relax.const(thresholds)]
        flat += [relax.const(each) for each in (*finish, taps, slope.reshape(1))]
        results = frames + sum(attributes["pads"]) - len(taps) + 1
        types = [((results, channels), "float32"), ((channels,), "float32")]
        y, _ = call_many(builder, nest, flat, types, name_of(attributes))
        return reshape(builder, y, (1, results, channels))


class _OneChannel(onnx_frontend.OnnxOpConverter):
    """A float convolution of one channel with what follows; see fuse.ONE_CHANNEL."""

    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        x, weights, bias, slope = inputs
        _, _, *image = shape_of(x)
        outputs, _, *kernel = shape_of(weights)
        strides, pads = attributes["strides"], attributes["pads"]
        rows, columns = (
            (image[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1)
        )
        output, size = (rows, columns), (image[0], image[1])
        nest = dual_workloads.one_channel(
            size, output, outputs, (kernel[0], kernel[1]), strides=strides, pads=tuple(pads[:2])
        )
        flat = [reshape(builder, x, tuple(image))]
        shapes = ((outputs, *kernel), (outputs,), (1,))
        for value, shape in zip((weights, bias, slope), shapes, strict=True):
            flat.append(relax.const(_constant(value).reshape(shape)))
        y = call(builder, nest, flat, (*output, outputs), "float32", name_of(attributes))
        return reshape(builder, y, (1, *output, outputs))


class _NotFusedError(Exception):
    """A product and its epilogue have no common nest."""


Operand = tuple[Any, tuple[int, ...]]
"""A value, and the shape in which a nest takes it."""


def _read_steps(
    layer: Convolution, planes: int, inputs: Any, result: tuple[int, ...]
) -> tuple[Steps, list[Operand]]:
    """The steps that there are, and their operands in a nest's order; raises _NotFusedError."""
    scale, multiplier, shift, slope, residual = inputs
    rows, outputs = prod(result[:-1]), result[-1]
    products = layer.products()
    has_table = products.ndim > 0
    operands: list[Operand] = []
    if layer.group != 1 or outputs % _LANES or (has_table and (products % 2).any()):
        raise _NotFusedError
    scales = shifts = 0
    if planes == 2:
        scales = prod(shape_of(scale))
        if scales > 1 and shape_of(scale) != (*result[:-1], 1):
            raise _NotFusedError
        operands.append((scale, (scales,)))
    elif not _is_all(scale, 1):
        raise _NotFusedError
    multipliers = 0
    if not _is_all(multiplier, 1):
        factors = _one_or_each(_constant(multiplier), outputs)
        multipliers = factors.size
        operands.append((factors, (multipliers,)))
    if not _is_all(shift, 0):
        array = _constant(shift)
        if array.ndim and (array == array[(0,) * (array.ndim - 1)]).all():
            array = array.reshape(-1, array.shape[-1])[0]  # the same in all rows
        varies = array.size > 1 and array.size != array.shape[-1]
        shifts = rows if varies else 1
        each = np.broadcast_to(array, result) if varies else _per_output(array, outputs)
        operands.append((each, (shifts, outputs)))
    has_slope = not _is_all(slope, 1)
    if has_slope:
        array = _constant(slope)
        if array.max() > 1 or array.min() != array.max():
            raise _NotFusedError
        operands.append((array.reshape(-1)[:1], (1,)))
    has_residual = not _is_all(residual, 0)
    if has_residual:
        if isinstance(residual, GenericConst) or shape_of(residual) != result:
            raise _NotFusedError
        operands.append((residual, (rows, outputs)))
    if (planes == 1 or has_residual) and (has_table or shifts > 1):
        raise _NotFusedError
    return Steps(scales, multipliers, shifts, has_slope, has_residual), operands


def _constant(value: Any) -> np.ndarray:
    if not isinstance(value, GenericConst):
        raise _NotFusedError
    array: np.ndarray = value.value.numpy()
    return array


def _is_all(value: Any, number: float) -> bool:
    """Whether an operand is a constant of this number everywhere: a step that is not there."""
    return isinstance(value, GenericConst) and bool((value.value.numpy() == number).all())


def _per_output(array: np.ndarray, outputs: int) -> np.ndarray:
    if array.size > 1 and array.size != array.shape[-1]:
        raise _NotFusedError
    return np.broadcast_to(array.reshape(-1), (outputs,))


def _one_or_each(array: np.ndarray, outputs: int) -> np.ndarray:
    """(1,) where all outputs have the same number, else (outputs,)."""
    each = _per_output(array, outputs)
    return each[:1] if each.min() == each.max() else each


def _reshaped(builder: Any, value: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(value, np.ndarray):
        return relax.const(np.array(value.reshape(shape), order="C"))
    return reshape(builder, value, shape)


class _QuantizedLinear(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, _attributes: Any, _parameters: Any) -> Any:
        x, *constants = inputs
        *leading, terms = shape_of(x)
        rows, outputs = prod(leading), shape_of(constants[0])[1]
        nest = workloads.quantized_linear(rows, terms, outputs)
        flat = [reshape(builder, x, (rows, terms)), *constants]
        kind = relax.TensorType((rows, outputs), "float32")
        y = relax.call_tir(builder.add_func(nest, "quantized_linear"), flat, out_ty=kind)
        return reshape(builder, builder.emit(y), (*leading, outputs))


def _fused(layer: str, epilogue: str) -> type[_Fused]:
    members = {"layer": LAYERS[layer], "planes": _PLANES[epilogue]}
    return type(f"_{fused_op(layer, epilogue)}", (_Fused,), members)


def _with_signs(layer: str) -> type[Signs]:
    return type(f"_{fused_op(layer, SIGNS)}", (Signs,), {"layer": LAYERS[layer]})


_PLANES = {"Epilogue": 1, "DualEpilogue": 2}

CONVERTERS: Mapping[str, type[onnx_frontend.OnnxOpConverter]] = {
    **LAYERS,
    "DualScale": _DualScale,
    "Epilogue": _Epilogue,
    "DualEpilogue": _DualEpilogue,
    SIGNS: IntegerThreshold,
    **{fused_op(layer, SIGNS): _with_signs(layer) for layer in FUSED_LAYERS},
    "QuantizedLinear": _QuantizedLinear,
    DUAL_DEPTHWISE: _DualDepthwise,
    ONE_CHANNEL: _OneChannel,
    **{
        fused_op(layer, epilogue): _fused(layer, epilogue)
        for layer in FUSED_LAYERS
        for epilogue in EPILOGUES
    },
}
