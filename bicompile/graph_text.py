"""A graph of ONNX nodes as text that a person reads."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper


def graph_text(model: onnx.ModelProto) -> str:
    """A graph as text: a line for every input, constant and node, with types and decisions."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type for value in values}

    def typed(name: str) -> str:
        if name not in types:
            return name
        dims = ",".join(str(dim.dim_value) for dim in types[name].shape.dim)
        return f"{name}: {TensorProto.DataType.Name(types[name].elem_type).lower()}[{dims}]"

    lines = [f"input {typed(value.name)}" for value in model.graph.input]
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        dims = ",".join(map(str, array.shape))
        kind = TensorProto.DataType.Name(tensor.data_type).lower()
        lines.append(f"constant {tensor.name}: {kind}[{dims}] = {_numbers(array)}")
    for node in model.graph.node:
        op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        attributes = [
            f"{attribute.name}={helper.get_attribute_value(attribute)}"
            for attribute in node.attribute
        ]
        lines.append(f"{typed(node.output[0])} = {op}({', '.join([*node.input, *attributes])})")
        lines += [f"  # {note.key} = {note.value}" for note in node.metadata_props]
    lines += [f"output {value.name}" for value in model.graph.output]
    return "\n".join(lines) + "\n"


def _numbers(array: NDArray[np.generic], most: int = 12) -> str:
    said: Sequence[str] = [f"{value:g}" for value in array.ravel()[:most]]
    return " ".join([*said, "…"] if array.size > most else said)
