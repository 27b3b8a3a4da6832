"""Valid models, damaged at random: in their bytes, and in what the bytes say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Generator = np.random.Generator
Edit = Callable[[onnx.ModelProto, Generator], None]

_NUMBERS = [-(2**62), -(2**31), -7, -2, -1, 0, 1, 2, 3, 5, 8, 1000, 2**31, 2**40, 2**62]
_FLOATS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1e38, -1.0, 0.5]
_NAMES = ["", "x", "y", "a b", "/", "é", "\n", "decision0", "conv/weights", "%s", "x" * 300]
_OPS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def mutated(model: onnx.ModelProto, generator: Generator) -> bytes:
    """A few graph edits, or damage to the bytes, or both."""
    damaged = onnx.ModelProto()
    damaged.CopyFrom(model)
    kind = generator.random()
    if kind < 0.85:
        for _ in range(generator.integers(1, 4)):
            edit = EDITS[generator.integers(len(EDITS))]
            edit(damaged, generator)
    content = damaged.SerializeToString()
    return content if kind < 0.8 else _bytes_damaged(content, generator)


def _bytes_damaged(content: bytes, generator: Generator) -> bytes:
    data = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        at = int(generator.integers(len(data) + 1))
        end = at + int(generator.integers(1, 9))
        match generator.integers(5):
            case 0 if at < len(data):
                data[at] ^= 1 << generator.integers(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = generator.bytes(end - at)
            case 3:
                data[at:at] = data[at:end]
            case _ if generator.random() < 0.2:
                del data[at:]
    return bytes(data)


def _one(values: Any, generator: Generator) -> Any:
    return values[generator.integers(len(values))] if len(values) else None


def _values(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    computed = [name for node in graph.node for name in node.output]
    return [*(v.name for v in graph.input), *(t.name for t in graph.initializer), *computed]


def _rewire(model: onnx.ModelProto, generator: Generator) -> None:
    """May close a cycle, or leave nodes that nothing needs."""
    node = _one(model.graph.node, generator)
    if node is not None and node.input:
        names = [*_values(model), *_NAMES] if generator.random() < 0.3 else _values(model)
        node.input[generator.integers(len(node.input))] = _one(names, generator)


def _drop_node(model: onnx.ModelProto, generator: Generator) -> None:
    """What used its output uses its input, or misses it."""
    if len(model.graph.node) < 2:
        return
    node = model.graph.node.pop(int(generator.integers(len(model.graph.node))))
    if generator.random() < 0.7 and node.input:
        for other in model.graph.node:
            renamed = [node.input[0] if name == node.output[0] else name for name in other.input]
            del other.input[:]
            other.input.extend(renamed)


def _duplicate_node(model: onnx.ModelProto, generator: Generator) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(_one(model.graph.node, generator))
    if generator.random() < 0.7:
        for index in range(len(node.output)):
            node.output[index] += "_again"
    model.graph.node.insert(int(generator.integers(len(model.graph.node))), node)


def _reorder(model: onnx.ModelProto, generator: Generator) -> None:
    node = model.graph.node.pop(int(generator.integers(len(model.graph.node))))
    model.graph.node.insert(int(generator.integers(len(model.graph.node) + 1)), node)


def _rename(model: onnx.ModelProto, generator: Generator) -> None:
    """One value, everywhere; perhaps to a name that is taken."""
    old, new = _one(_values(model), generator), _one([*_values(model), *_NAMES], generator)
    for node in model.graph.node:
        for names in (node.input, node.output):
            renamed = [new if name == old else name for name in names]
            del names[:]
            names.extend(renamed)
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        if value.name == old:
            value.name = new


def _name_node(model: onnx.ModelProto, generator: Generator) -> None:
    others = [node.name for node in model.graph.node]
    _one(model.graph.node, generator).name = _one([*others, *_NAMES], generator)


def _change_op(model: onnx.ModelProto, generator: Generator) -> None:
    node = _one(model.graph.node, generator)
    similar = ["Add", "Sub", "Mul", "Div", "Max", "Sign", "Relu", "Neg", "Floor", "Round", "Not"]
    node.op_type = _one(similar if generator.random() < 0.6 else _OPS, generator)
    if generator.random() < 0.5:
        del node.attribute[:]


def _change_domain(model: onnx.ModelProto, generator: Generator) -> None:
    domains = ["ai.onnx", "ai.onnx.ml", "com.example", "bicompile", "qonnx.custom_op.general"]
    node = _one(model.graph.node, generator)
    node.domain = _one(domains, generator)
    node.op_type = _one([node.op_type, "Threshold", "BipolarQuant", "Unpack"], generator)
    if generator.random() < 0.5:
        model.opset_import.append(helper.make_opsetid(node.domain, 1))


def _change_attribute(model: onnx.ModelProto, generator: Generator) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    node = _one(nodes, generator)
    attribute = _one(node.attribute, generator)
    number = _one(_NUMBERS, generator)
    match generator.integers(6):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.name = _one(["group", "axis", "pads", "nothing", ""], generator)
        case 2:
            node.attribute.append(attribute)
        case 3:
            attribute.CopyFrom(helper.make_attribute(attribute.name, _one(_FLOATS, generator)))
        case _ if attribute.ints:
            attribute.ints[generator.integers(len(attribute.ints))] = number
        case _:
            attribute.CopyFrom(helper.make_attribute(attribute.name, number))


def _add_attribute(model: onnx.ModelProto, generator: Generator) -> None:
    names = [
        "axis",
        "group",
        "strides",
        "pads",
        "dilations",
        "kernel_shape",
        "auto_pad",
        "keepdims",
    ]
    value: Any = _one([_one(_NUMBERS, generator), [1, 1], [0, 1, 2, 0], "SAME_UPPER"], generator)
    node = _one(model.graph.node, generator)
    node.attribute.append(helper.make_attribute(_one(names, generator), value))


def _change_numbers(model: onnx.ModelProto, generator: Generator) -> None:
    """NaN, infinities, zeros and others in a constant."""
    tensor = _one(model.graph.initializer, generator)
    if tensor is None or not tensor.raw_data or tensor.data_type not in (1, 7):
        return
    try:
        array = numpy_helper.to_array(tensor).copy()
    except ValueError:  # an earlier edit changed its shape
        return
    if not array.size:
        return
    value = _one(_FLOATS if array.dtype.kind == "f" else _NUMBERS, generator)
    if generator.random() < 0.3:
        array[...] = value
    else:
        array.flat[generator.integers(array.size)] = value
    tensor.raw_data = array.tobytes()


def _change_dtype(model: onnx.ModelProto, generator: Generator) -> None:
    """Of a constant, whose bytes may then not fit, or of the input or output."""
    kinds = [1, 2, 3, 6, 7, 9, 10, 11, 16, 17, 22, 99, 8, 0]
    if generator.random() < 0.7 and model.graph.initializer:
        tensor = _one(model.graph.initializer, generator)
        if generator.random() < 0.5 and tensor.raw_data and tensor.data_type == 1:
            cast = numpy_helper.to_array(tensor).astype(_one(["f8", "f2", "i4", "?"], generator))
            tensor.CopyFrom(numpy_helper.from_array(cast, tensor.name))
        else:
            tensor.data_type = _one(kinds, generator)
        return
    value = _one([*model.graph.input, *model.graph.output], generator)
    if value is not None:
        value.type.tensor_type.elem_type = _one(kinds, generator)


def _change_shape(model: onnx.ModelProto, generator: Generator) -> None:
    number = _one([*_NUMBERS, 4, 6, 12], generator)
    if generator.random() < 0.5 and model.graph.initializer:
        tensor = _one(model.graph.initializer, generator)
        if generator.random() < 0.4 and tensor.dims:
            tensor.dims.reverse()
        elif tensor.dims:
            tensor.dims[generator.integers(len(tensor.dims))] = number
        else:
            tensor.dims.append(number)
        return
    value = _one([*model.graph.input, *model.graph.output], generator)
    if value is not None and value.type.tensor_type.shape.dim:
        dim = _one(value.type.tensor_type.shape.dim, generator)
        if generator.random() < 0.3:
            dim.dim_param = "N"
        else:
            dim.dim_value = number


def _in_a_subgraph(model: onnx.ModelProto, generator: Generator) -> None:
    """A node becomes an If with itself in both branches, or a Loop around itself."""
    at = int(generator.integers(len(model.graph.node)))
    node = onnx.NodeProto()
    node.CopyFrom(model.graph.node[at])
    if len(node.output) != 1:
        return
    (to,) = node.output
    node.output[0] = "inner"
    inner = [helper.make_empty_tensor_value_info("inner")]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    if generator.random() < 0.6:
        branch = helper.make_graph([node], "branch", [], inner)
        outer = helper.make_node("If", ["yes"], [to], "if", then_branch=branch, else_branch=branch)
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array(2), "times"))
        going = helper.make_node("Identity", ["go"], ["going"])
        takes = [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ]
        gives = [helper.make_tensor_value_info("going", TensorProto.BOOL, []), *inner]
        body = helper.make_graph([node, going], "body", takes, gives)
        outer = helper.make_node("Loop", ["times", "yes"], [to], "loop", body=body)
    model.graph.node[at].CopyFrom(outer)


def _in_a_function(model: onnx.ModelProto, generator: Generator) -> None:
    """A node becomes a function with that node in it, or with a call of itself."""
    node = _one(model.graph.node, generator)
    inputs = list(dict.fromkeys(name for name in node.input if name))
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    if generator.random() < 0.3:
        inner.domain, inner.op_type = "com.example", "Itself"
        del inner.attribute[:]
    opsets = [helper.make_opsetid("", _one([13, 20, 20, 20, 1], generator))]
    opsets.append(helper.make_opsetid("com.example", 1))
    function = helper.make_function(
        "com.example", "Itself", inputs, list(node.output), [inner], opsets
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    call = helper.make_node("Itself", inputs, list(node.output), node.name, domain="com.example")
    node.CopyFrom(call)


def _inputs_and_outputs(model: onnx.ModelProto, generator: Generator) -> None:
    value = helper.make_tensor_value_info(_one(_values(model), generator), 1, [1, 4])
    match generator.integers(5):
        case 0:
            model.graph.input.append(value)
        case 1:
            model.graph.output.append(value)
        case 2 if model.graph.output:
            model.graph.output[0].name = value.name
        case 3 if model.graph.output:
            model.graph.output[0].ClearField("type")
        case _:
            model.graph.value_info.append(value)


def _external(model: onnx.ModelProto, generator: Generator) -> None:
    tensor = _one(model.graph.initializer, generator)
    if tensor is None:
        return
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ["missing.bin", "../outside", "/etc/hostname", "", "model.onnx", ".", "a\0b"]
    tensor.external_data.add(key="location", value=_one(places, generator))
    if generator.random() < 0.5:
        values = ["0", "-1", "many", "99999999999999999999"]
        tensor.external_data.add(
            key=_one(["offset", "length"], generator), value=_one(values, generator)
        )


def _change_versions(model: onnx.ModelProto, generator: Generator) -> None:
    match generator.integers(5):
        case 0:
            model.ir_version = _one([0, 1, 3, 8, 13, 1000, 2**62], generator)
        case 1:
            del model.opset_import[:]
        case 2:
            model.opset_import.append(helper.make_opsetid("", _one([13, 18, 20, 21], generator)))
        case _:
            for opset in model.opset_import:
                opset.version = _one([-1, 1, 7, 12, *range(13, 27), 2**40], generator)


def _note(model: onnx.ModelProto, generator: Generator) -> None:
    """What passes write, written by someone else."""
    keys = ["bicompile.decision", "bicompile.layer", "bicompile.assumed", "bicompile.labels"]
    values = ["", "binary: yes", "conv", '["a"]', "{", "plus"]
    key, value = _one([*keys, "bicompile.sign_of_zero"], generator), _one(values, generator)
    place = _one([model, _one(model.graph.node, generator)], generator)
    place.metadata_props.add(key=key, value=value)


EDITS: tuple[Edit, ...] = (
    _rewire,
    _drop_node,
    _duplicate_node,
    _reorder,
    _rename,
    _name_node,
    _change_op,
    _change_domain,
    _change_attribute,
    _add_attribute,
    _change_numbers,
    _change_numbers,
    _change_dtype,
    _change_shape,
    _in_a_subgraph,
    _in_a_function,
    _inputs_and_outputs,
    _external,
    _change_versions,
    _note,
)
