"""f(constants) → constant, for whatever a graph computes from constants alone.

Weights that are binarized in the graph, and the chains of small integer tensors with which
exporters compute pads and sizes, become what they are: numbers. Shapes are static, so the Shape of
any tensor is one too. onnxruntime computes them, as it would whenever the model ran; constants that
stand in nodes become initializers first.

Conditions: standard operators without subgraphs that give the same whenever they run; tensors of
numbers or truth values, with static shapes, of at most 2^24 elements each. An output of the graph
stays computed. Where onnxruntime refuses to compute, everything stays.
"""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common
import onnxruntime

from bicompile.passes.graph import constant, produced_by, shape_of

_MOST_ELEMENTS = 2**24
_SILENT = 4
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_RANDOM = (
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
_INTEGERS = {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL}
_NUMBERS = {
    *_INTEGERS, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT8,
    ir.DataType.INT16, ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32,
    ir.DataType.UINT64,
}  # fmt: skip


def fold_constants(model: ir.Model) -> None:
    """Apply the rewrite of this file to every node."""
    _fold(model, _NUMBERS)


def fold_sizes(model: ir.Model) -> bool:
    """Apply it to integers and truth values only, whatever has no shape yet; whether any was."""
    return _fold(model, _INTEGERS)


def _fold(model: ir.Model, dtypes: set[ir.DataType]) -> bool:
    lift = onnx_ir.passes.common.LiftConstantsToInitializersPass
    lift(lift_all_constants=True, size_limit=0)(model)
    graph = model.graph
    changed = False
    for node in list(graph):
        sizes = _sizes(node)
        if sizes is not None:
            _replace(graph, node.outputs[0], sizes)
            graph.remove(node, safe=True)
            changed = True
    nodes: dict[ir.Node, None] = {}
    known: dict[ir.Value, None] = {}
    for node in graph:
        needed = [value for value in node.inputs if value is not None]
        is_constant = all(value in known or constant(value) is not None for value in needed)
        if is_constant and _may_fold(node, dtypes):
            nodes[node] = None
            known |= dict.fromkeys(node.outputs)
    wanted = [v for v in known if any(user not in nodes for user in v.consumers())]
    try:
        arrays = _run(model, list(nodes), known, wanted)
    except Exception:  # onnxruntime has a dozen exceptions without a common base
        return changed
    for value, array in zip(wanted, arrays, strict=True):
        _replace(graph, value, array)
    graph.remove(list(nodes), safe=True)
    return changed or bool(nodes)


def _sizes(node: ir.Node) -> np.ndarray | None:
    """What a Shape or a Size gives, where its input has a static shape."""
    if produced_by(node.outputs[0], "Shape", "Size") is None or node.inputs[0] is None:
        return None
    if not _is_static(node.inputs[0]):
        return None
    sizes = shape_of(node.inputs[0])
    if node.op_type == "Size":
        return np.array(math.prod(sizes))
    start, end = node.attributes.get("start"), node.attributes.get("end")
    bounds = slice(start and start.as_int(), end and end.as_int())
    return np.array(sizes[bounds], np.int64)


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _may_fold(node: ir.Node, dtypes: set[ir.DataType]) -> bool:
    """Whether the conditions hold that do not ask what the inputs are."""
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in _RANDOM
        and all(attribute.type not in _GRAPHS for attribute in node.attributes.values())
        and all(
            value.dtype in dtypes
            and _is_static(value)
            and math.prod(shape_of(value)) <= _MOST_ELEMENTS
            and not value.is_graph_output()
            for value in node.outputs
        )
    )


def _run(
    model: ir.Model, nodes: list[ir.Node], known: dict[ir.Value, None], wanted: list[ir.Value]
) -> list[np.ndarray]:
    if not wanted:
        return []
    needed = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "constants",
        [],
        [onnx.ValueInfoProto(name=value.name) for value in wanted],
        [
            onnx.numpy_helper.from_array(constant(value), value.name)
            for value in needed
            if value not in known
        ],
    )
    opsets = [onnx.helper.make_opsetid("", model.opset_imports[""])]
    alone = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(alone.SerializeToString(), options)
    arrays: list[np.ndarray] = session.run(None, {})
    return arrays


def _replace(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> None:
    """Let an initializer take the place and the name of a value."""
    tensor = ir.tensor(array, name=value.name)
    constant_value = ir.val(value.name, const_value=tensor)
    constant_value.shape = ir.Shape(array.shape)
    constant_value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.replace_all_uses_with(constant_value)
    graph.register_initializer(constant_value)
