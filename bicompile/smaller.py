"""Options that make an object smaller and its network another one: fewer bits for its constants.

They change the lowered graph, so that lowered.onnx is what the object computes. No more is lost
where constants are stored (see compact).
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bicompile.errors import UserError
from bicompile.ops import DOMAIN

Constants = Literal["float32", "float16"]
ClassifierBits = Literal["float32", "int8"]

SMALLER = {"constants": "bicompile.constants", "classifier": "bicompile.classifier"}
"""Metadata keys of a lowered model: the option that it was made smaller with."""

_LEAST = 64
"""Elements; a smaller constant stays as it is."""

_MOST = float(np.finfo(np.float16).max)
_STEPS = 2**16 - 2
_STEP_BITS = 7
_COMPARE = ("DualScale", "Threshold", "IntegerThreshold")
_LEVELS = 127
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Pad")


def make_smaller(
    lowered: onnx.ModelProto, *, constants: Constants, classifier: ClassifierBits
) -> onnx.ModelProto:
    """The graph with these options; with the defaults it is the same graph.

    Raises UserError for constants that float16 does not hold, and where there is no classifier.
    """
    for given, known in ((constants, Constants), (classifier, ClassifierBits)):
        if given not in get_args(known):
            raise UserError(f"{given!r} is not one of {', '.join(get_args(known))}")
    smaller = onnx.ModelProto()
    smaller.CopyFrom(lowered)
    if classifier == "int8":
        _quantize_classifier(smaller.graph)
    if constants == "float16":
        _round_constants(smaller.graph)
    for option, chosen in (("constants", constants), ("classifier", classifier)):
        if chosen != "float32":
            smaller.metadata_props.add(key=SMALLER[option], value=chosen)
    return smaller


def is_smaller(model: onnx.ModelProto) -> bool:
    """Whether a lowered model is another network than what was compiled."""
    return any(p.key in SMALLER.values() for p in model.metadata_props)


def _round_constants(graph: onnx.GraphProto) -> None:
    """Round float32 constants of some different numbers to what 16 bits hold; they stay float32.

    That is the nearest float16, or equal steps from the least to the largest number where those
    are nearer: factors and shifts, whose small numbers need not be finer than the large ones. What
    is compared with is always float16: that changes next to no bit, and several kinds of it lie in
    one array. The layer that reads the input keeps its own: it sums numbers as large as the
    caller's, and what rounding does to its sums decides bits.
    """
    kept = _read_with_input(graph)
    compared = {name for node in graph.node if node.op_type in _COMPARE for name in node.input}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST:
            continue
        if tensor.name in kept:
            continue
        array = numpy_helper.to_array(tensor)
        if (array == array.flat[0]).all():
            continue
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float16).astype(np.float32)
        over = np.isinf(rounded) & np.isfinite(array)
        if over.any():
            reader = next(node for node in graph.node if tensor.name in node.input)
            raise UserError(
                f"node {reader.name or reader.output[0]} has {array[over][0]:g} in its constant "
                f"{tensor.name}, and float16 ends at {_MOST:g}; compile with --constants float32"
            )
        stepped = None if tensor.name in compared else in_steps(array)
        if stepped is not None and _distance(stepped, array) < _distance(rounded, array):
            rounded = stepped
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))


def in_steps(array: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The nearest of 2^16 numbers in equal steps from min to max; None where that is not exact.

    Numbers are whole multiples, of 17 bits, of a step of 7: no product of them is rounded.
    """
    if not np.isfinite(array).all() or array.min() == array.max():
        return None
    mantissa, exponent = np.frexp((np.float64(array.max()) - np.float64(array.min())) / _STEPS)
    step = np.ldexp(np.ceil(mantissa * 2**_STEP_BITS), int(exponent) - _STEP_BITS)
    whole = np.round(array / step)
    if np.abs(whole).max() >= 2 ** (np.finfo(np.float32).nmant + 1 - _STEP_BITS):
        return None
    rounded: NDArray[np.float32] = (whole * step + 0.0).astype(np.float32)  # + 0: no −0
    return rounded


def _distance(rounded: NDArray[np.float32], array: NDArray[np.float32]) -> float:
    with np.errstate(all="ignore"):
        return float(np.square(rounded.astype(np.float64) - array).sum())


def _read_with_input(graph: onnx.GraphProto) -> set[str]:
    """What nodes read that read the graph's input, in whatever shape."""
    inputs = {value.name for value in graph.input}
    kept: set[str] = set()
    for node in graph.node:
        if inputs.isdisjoint(node.input):
            continue
        if node.op_type in _MOVES:
            inputs.update(node.output)
        else:
            kept.update(node.input)
    return kept


def _quantize_classifier(graph: onnx.GraphProto) -> None:
    """The last layer as QuantizedLinear, each output with a scale of its own: max|w| / 127."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    layer = _classifier(graph, tensors)
    given = {each.name: helper.get_attribute_value(each) for each in layer.attribute}
    weights = numpy_helper.to_array(tensors[layer.input[1]])
    weights = weights.T if given.get("transB", 0) else weights
    bias = np.zeros(weights.shape[1], np.float32)
    if len(layer.input) > 2:
        bias = bias + numpy_helper.to_array(tensors[layer.input[2]])
    scale = np.abs(weights).max(axis=0) / np.float32(_LEVELS)
    scale[scale == 0] = 1
    levels = np.round(weights / scale).astype(np.int8)
    inputs = [layer.input[0]]
    for suffix, array in (("int8", levels), ("scale", scale), ("bias", bias)):
        inputs.append(_added(graph, f"{layer.input[1]}/{suffix}", array))
    replaced = helper.make_node(
        "QuantizedLinear", inputs, list(layer.output), layer.name, domain=DOMAIN
    )
    replaced.metadata_props.extend(layer.metadata_props)
    old = set(layer.input[1:])
    layer.CopyFrom(replaced)
    unread = old - {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
        graph.initializer.remove(tensor)


def _classifier(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]) -> onnx.NodeProto:
    """The float layer that no other follows."""
    layers = [
        node
        for node in graph.node
        if node.op_type in ("Gemm", "MatMul", "Conv") or node.op_type.startswith("Binary")
    ]
    last = layers[-1] if layers else None
    if last is not None and last.op_type in ("Gemm", "MatMul"):
        weights = tensors.get(last.input[1])
        given = {each.name: helper.get_attribute_value(each) for each in last.attribute}
        plain = not given.get("transA", 0) and given.get("alpha", 1) == given.get("beta", 1) == 1
        if (
            plain
            and weights is not None
            and weights.data_type == TensorProto.FLOAT
            and len(weights.dims) == 2
            and all(name in tensors for name in last.input[1:])
        ):
            return last
    found = "it has no layer" if last is None else f"its last layer {last.name} is {last.op_type}"
    raise UserError(
        f"the model has no float classifier to make int8: {found}; "
        "compile it without --classifier int8"
    )


def _added(graph: onnx.GraphProto, name: str, array: NDArray[np.generic]) -> str:
    taken = {tensor.name for tensor in graph.initializer}
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name
