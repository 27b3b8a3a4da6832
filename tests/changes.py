"""Valid models changed at random into other valid models: shapes and types stay."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

Generator = np.random.Generator
Change = Callable[[onnx.ModelProto, Generator], None]
T = TypeVar("T")

_OF_ONE = ("Sign", "Relu", "Neg", "Abs", "Floor", "Round", "Ceil", "Tanh", "Identity", "Erf")
_OF_TWO = ("Add", "Sub", "Mul", "Div", "Max", "Min")
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
_NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, -3.0, 1e-3, 100.0, float(np.nextafter(np.float32(1), 2)))


def changed(model: onnx.ModelProto, generator: Generator) -> bytes:
    """The model after one to four changes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(generator.integers(1, 5)):
        CHANGES[generator.integers(len(CHANGES))](copy, generator)
    return copy.SerializeToString()


def _one(values: Sequence[T], generator: Generator) -> T:
    return values[generator.integers(len(values))]


def _types(model: onnx.ModelProto) -> dict[str, bytes]:
    """Element type and shape of every value, as something to compare."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: value.type.SerializeToString(deterministic=True)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _floats(model: onnx.ModelProto) -> list[str]:
    """The float32 values that nodes compute."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    computed = [name for node in graph.node for name in node.output]
    return [name for name in computed if kinds.get(name) == onnx.TensorProto.FLOAT]


def _change_op(model: onnx.ModelProto, generator: Generator) -> None:
    """Into another that takes and gives the same."""
    floats = set(_floats(model))
    choices = [
        (node, ops)
        for node in model.graph.node
        for ops in (_OF_ONE, _OF_TWO, _COMPARISONS)
        if node.op_type in ops and (ops is _COMPARISONS or node.output[0] in floats)
    ]
    if choices:
        node, ops = _one(choices, generator)
        node.op_type = _one(ops, generator)


def _swap_operands(model: onnx.ModelProto, generator: Generator) -> None:
    """Of a sum, a comparison or a choice."""
    swapped = {"Where": (1, 2), **dict.fromkeys((*_OF_TWO, *_COMPARISONS), (0, 1))}
    nodes = [node for node in model.graph.node if node.op_type in swapped]
    if nodes:
        node = _one(nodes, generator)
        first, second = swapped[node.op_type]
        node.input[first], node.input[second] = node.input[second], node.input[first]


def _change_numbers(model: onnx.ModelProto, generator: Generator) -> None:
    """Of a constant: one of them, or all turned or scaled, or all but one made equal."""
    tensors = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and numpy_helper.to_array(tensor).size
    ]
    if not tensors:
        return
    tensor = _one(tensors, generator)
    array = numpy_helper.to_array(tensor).copy()
    number = np.float32(_one(_NUMBERS, generator))
    place = generator.integers(array.size)
    match generator.integers(4):
        case 0:
            array.flat[place] = number
        case 1:
            array *= number or np.float32(2)
        case 2:
            array = np.flip(array).copy()
        case _:
            kept = array.flat[place]
            array[...] = number
            array.flat[place] = kept
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _insert(model: onnx.ModelProto, generator: Generator) -> None:
    """An op between a value and one of those that read it, with a number of its own or without."""
    graph = model.graph
    floats = set(_floats(model))
    places = [
        (position, index)
        for position, node in enumerate(graph.node)
        for index, name in enumerate(node.input)
        if name in floats
    ]
    if not places:
        return
    position, index = _one(places, generator)
    reader = graph.node[position]
    fresh = f"inserted{len(graph.node)}"
    inputs = [reader.input[index]]
    if generator.random() < 0.5:
        op = _one(_OF_TWO, generator)
        number = numpy_helper.from_array(np.float32(_one(_NUMBERS, generator)), f"{fresh}/number")
        graph.initializer.append(number)
        inputs.append(number.name)
    else:
        op = _one(_OF_ONE, generator)
    reader.input[index] = fresh
    graph.node.insert(position, helper.make_node(op, inputs, [fresh], fresh))


def _rewire(model: onnx.ModelProto, generator: Generator) -> None:
    """To a value of the same type and shape that is there already."""
    types = _types(model)
    known = [value.name for value in model.graph.input]
    choices: list[tuple[onnx.NodeProto, int, str]] = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            equal = (other for other in known if other != name and name in types)
            choices += [(node, index, o) for o in equal if types.get(o) == types[name]]
        known += node.output
    if choices:
        node, index, other = _one(choices, generator)
        node.input[index] = other


def _drop(model: onnx.ModelProto, generator: Generator) -> None:
    """A node whose output has the type and shape of its first input."""
    types = _types(model)
    outputs = {value.name for value in model.graph.output}
    nodes = [
        node
        for node in model.graph.node
        if node.input and node.output[0] not in outputs
        if node.input[0] in types and types[node.input[0]] == types.get(node.output[0])
    ]
    if not nodes:
        return
    dropped = _one(nodes, generator)
    for node in model.graph.node:
        node.input[:] = [dropped.input[0] if n == dropped.output[0] else n for n in node.input]
    model.graph.node.remove(dropped)


CHANGES: tuple[Change, ...] = (
    _change_op,
    _swap_operands,
    _change_numbers,
    _change_numbers,
    _insert,
    _rewire,
    _drop,
)
