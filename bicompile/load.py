"""Reading an ONNX file that anybody may have written."""

import json
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, inliner, version_converter

from bicompile.accepted_ops import OURS, STANDARD, check_functions, check_ops, graphs_in
from bicompile.errors import UserError
from bicompile.ops import STANDARD_OPSET
from bicompile.passes.fold_constants import fold_sizes
from bicompile.qonnx import with_standard_ops

_OLDEST_OPSET = 13
_NEWEST_OPSET = 25
_OLDEST_IR = 10  # the first that may hold all that passes add
_MOST_INPUT_ELEMENTS = 2**24
_MOST_ELEMENTS = 2**26


def load_model(path: Path) -> onnx.ModelProto:
    """Read, validate and shape-infer a model; its standard opset is then `STANDARD_OPSET`.

    Accepted: opset 13 to 25; one float32 input and one float32 output, batch 1; standard ops that
    are neither loops nor random, and the BipolarQuant of QONNX; static shapes throughout, no tensor
    above 2^26 elements. Model-local functions are inlined, and every node gets a name of its own.
    Raises UserError in one sentence for everything else.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of an ONNX file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of an ONNX file")
    try:
        model = onnx.load(path, format="protobuf")
    except DecodeError as error:
        raise UserError(f"{path} is not an ONNX model, or is truncated; export it again") from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_sentence(error)}") from error
    if not model.graph.node or not model.opset_import:
        raise UserError(
            f"{path} is not an ONNX model, or is truncated: it has no nodes; export it again"
        )
    if not _is_text(model):
        raise UserError(f"{path} is damaged: a name in it is not text; export it again")
    _make_initialized_inputs_constant(model)
    _name_nodes(model.graph)
    _check_inputs_and_outputs(path, model)
    model = with_standard_ops(path, model)
    check_ops(path, model)
    check_functions(path, model)
    model = _at_standard_opset(path, model)
    try:
        onnx.checker.check_model(model)
        model = inliner.inline_selected_functions(model, OURS, exclude=True)
        _name_nodes(model.graph)
        check_ops(path, model)
        _check_constants(path, model.graph)
        onnx.checker.check_model(model, full_check=True)
        model = _infer_shapes(model)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
    ) as error:
        raise UserError(f"{path} is not a valid ONNX model: {_sentence(error)}") from error
    _check_shapes(path, model.graph)
    _check_labels(path, model)
    return model


def _sentence(error: BaseException) -> str:
    said = str(error).partition("==> Context")[0]
    return " ".join(said.split()).rstrip(".") or type(error).__name__


def _is_text(message: Message) -> bool:
    """Whether every string is UTF-8; protobuf gives the others as bytes."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_STRING and bytes in map(type, values):
            return False
        if field.type == FieldDescriptor.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
    return True


def _make_initialized_inputs_constant(model: onnx.ModelProto) -> None:
    """Before IR version 4 every constant was an input too, with the constant as its default."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialized]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _OLDEST_IR)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give a name to every node that has none, or one that another node has: reports go by it."""
    counts = Counter(node.name for node in graph.node)
    taken = set(counts)
    for node in graph.node:
        if node.name and counts[node.name] == 1:
            continue
        base, number = node.name or node.op_type, 1
        name = base
        while not name or name in taken:
            name, number = f"{base}_{number}", number + 1
        node.name = name
        taken.add(name)


def _check_inputs_and_outputs(path: Path, model: onnx.ModelProto) -> None:
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        if len(values) != 1:
            names = ", ".join(value.name for value in values) or "none"
            raise UserError(
                f"{path} has {len(values)} {what}s ({names}); a model with exactly one is accepted"
            )
        tensor = values[0].type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            raise UserError(
                f"{path}: {what} {values[0].name} is {_dtype_name(tensor.elem_type)}; "
                "float (float32) is accepted"
            )
        if what == "output":
            continue
        dims = [dim.dim_param or dim.dim_value or "?" for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or not all(isinstance(d, int) and d > 0 for d in dims):
            raise UserError(
                f"{path}: {what} {values[0].name} has the dynamic shape "
                f"({', '.join(map(str, dims))}); export it with static shapes and batch 1"
            )
        if dims and dims[0] != 1:
            raise UserError(
                f"{path}: {what} {values[0].name} has batch {dims[0]}; export it with batch 1"
            )
        if (elements := prod(map(int, dims))) > _MOST_INPUT_ELEMENTS:
            raise UserError(
                f"{path}: {what} {values[0].name} has {elements} elements; "
                f"at most {_MOST_INPUT_ELEMENTS} are accepted"
            )


def _dtype_name(elem_type: int) -> str:
    known = elem_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(elem_type).lower() if known else f"of unknown type {elem_type}"


def _check_constants(path: Path, graph: onnx.GraphProto) -> None:
    """Read every constant once: the checker lets some through whose bytes do not fit the shape."""
    if graph.sparse_initializer:
        raise UserError(f"{path} has sparse constants; export it with dense ones")
    nodes = [node for each in graphs_in(graph) for node in each.node]
    tensors = [attribute.t for node in nodes for attribute in node.attribute]
    for tensor in (*(t for each in graphs_in(graph) for t in each.initializer), *tensors):
        what = f"{path}: the constant {tensor.name or '(unnamed)'}"
        try:
            array = onnx.numpy_helper.to_array(tensor) if tensor.data_type else np.zeros(0)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{what} is damaged ({_sentence(error)}); export the model again"
            ) from error
        # Of a NaN there is no sign; the passes leave open what a comparison with one gives.
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise UserError(f"{what} holds NaN; train or export the model again")


def _infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Note the shape of every value; sizes that the graph computes from constants come first."""
    while True:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        if _first_dynamic(model.graph) is None:
            return model
        folded = ir.from_proto(model)
        if not fold_sizes(folded):
            return model
        model = ir.to_proto(folded)


def _check_shapes(path: Path, graph: onnx.GraphProto) -> None:
    dynamic = _first_dynamic(graph)
    if dynamic is not None:
        node, name = dynamic
        raise UserError(
            f"{path}: the shape of {name}, which node {node.name} ({node.op_type}) gives, "
            "depends on the input's values; export the model with static shapes"
        )
    values = [value for each in graphs_in(graph) for value in each.value_info]
    for value in (*values, *graph.output):
        elements = prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if elements > _MOST_ELEMENTS:
            raise UserError(
                f"{path}: the tensor {value.name} has {elements} elements; at most "
                f"{_MOST_ELEMENTS} are accepted"
            )


def _first_dynamic(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, str] | None:
    """The first node with an output of which some size is unknown, and the output."""
    static = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    outputs = ((node, name) for node in graph.node for name in node.output)
    return next(((node, name) for node, name in outputs if name and name not in static), None)


def _check_labels(path: Path, model: onnx.ModelProto) -> None:
    said = next((p.value for p in model.metadata_props if p.key == "bicompile.labels"), None)
    if said is None:
        return
    outputs = prod(dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim)
    try:
        labels = json.loads(said)
    except (ValueError, RecursionError):
        labels = None
    words = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not words or len(labels) != outputs:
        raise UserError(
            f"{path}: its metadata bicompile.labels is not a JSON list of {outputs} words, one for "
            "each output; correct or remove it"
        )


def _at_standard_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    for opset in model.opset_import:
        opset.domain = "" if opset.domain in STANDARD else opset.domain
    domains = [opset.domain for opset in model.opset_import]
    twice = next((domain for domain in domains if domains.count(domain) > 1), None)
    if twice is not None:
        raise UserError(
            f"{path} imports the opset of the domain {twice or 'ai.onnx'} twice; export it again"
        )
    version = next((o.version for o in model.opset_import if not o.domain), 0)
    if version == STANDARD_OPSET:
        return model
    if not _OLDEST_OPSET <= version <= _NEWEST_OPSET:
        raise UserError(
            f"{path} has opset {version}; opsets {_OLDEST_OPSET} to {_NEWEST_OPSET} are accepted, "
            f"{STANDARD_OPSET} is best"
        )
    try:
        return version_converter.convert_version(model, STANDARD_OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise UserError(
            f"{path} has opset {version} and could not be converted to {STANDARD_OPSET} "
            f"({_sentence(error)}); export it with opset {STANDARD_OPSET}"
        ) from error
