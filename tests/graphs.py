"""What the tests of passes share: apply a pass to a graph by hand, run both, show both."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from bicompile.check import session
from bicompile.ops import DOMAIN, VERSION, function_protos

Pass = Callable[[ir.Model], None]

FUNCTIONS = function_protos()

SIGN = {"zero": np.float32(0), "one": np.float32(1), "minus": np.float32(-1)}
"""The constants that `dual_scale` needs beside its own."""


def floats(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the domain's functions, checked, and the shape of every value."""
    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    if not ready.functions:
        ready.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        ready.functions.extend(FUNCTIONS)
    onnx.checker.check_model(ready, full_check=True)
    return onnx.shape_inference.infer_shapes(ready, strict_mode=True, data_prop=True)


def applied(model: onnx.ModelProto, *passes: Pass) -> onnx.ModelProto:
    """The model after passes; every value's noted shape and dtype is the one that it has."""
    rewritten = ir.from_proto(inferred(model))
    for each in passes:
        each(rewritten)
    after = ir.to_proto(rewritten)
    onnx.checker.check_model(after, full_check=True)
    assert_true_shapes(after)
    return after


def assert_true_shapes(model: onnx.ModelProto) -> None:
    """What a model notes of its values is what onnxruntime gives them."""
    noted = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    names = [name for node in model.graph.node for name in node.output if name]
    assert set(names) <= set(noted)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(noted[name] for name in names)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    values = session(watched).run(None, {model.graph.input[0].name: np.zeros(shape, np.float32)})
    for name, value in zip(names, values, strict=True):
        noted_type = noted[name].type.tensor_type
        assert tuple(dim.dim_value for dim in noted_type.shape.dim) == value.shape, name
        assert helper.tensor_dtype_to_np_dtype(noted_type.elem_type) == value.dtype, name
    for tensor in model.graph.initializer:
        if tensor.name in noted:
            dims = noted[tensor.name].type.tensor_type.shape.dim
            assert [dim.dim_value for dim in dims] == list(tensor.dims), tensor.name


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output for one input."""
    (y,) = session(model).run(None, {model.graph.input[0].name: x})
    return y


def assert_same(
    before: onnx.ModelProto, after: onnx.ModelProto, *inputs: np.ndarray, tolerance: float = 1e-5
) -> None:
    """Both give the same, relative to the largest output."""
    old, new = session(before), session(after)
    for x in inputs:
        feed = {before.graph.input[0].name: x}
        (expected,), (found,) = old.run(None, feed), new.run(None, feed)
        limit = tolerance * float(np.abs(expected).max(initial=0))
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def ops_of(model: onnx.ModelProto) -> list[str]:
    """The op of every node, in order."""
    return [node.op_type for node in model.graph.node]


def decisions(model: onnx.ModelProto) -> list[str]:
    """What passes noted on the nodes, in order."""
    notes = [note for node in model.graph.node for note in node.metadata_props]
    return [note.value for note in notes if note.key == "bicompile.decision"]


def dual_scale(x: str, to: str, axes: str, *, alpha: str = "alpha") -> list[onnx.NodeProto]:
    """b1 + s·b2 − θ2 as a network of this project writes it, in eval mode.

    Needs the constants theta, theta1, theta2, `alpha` and `axes` (what s is averaged over).
    """
    node = helper.make_node
    return [
        node("Sub", [x, "theta"], [f"{to}_centred"]),
        node("Mul", [alpha, f"{to}_centred"], [f"{to}_turned"]),
        node("GreaterOrEqual", [f"{to}_turned", "zero"], [f"{to}_bit1"]),
        node("Where", [f"{to}_bit1", "one", "minus"], [f"{to}_b1"]),
        node("Sub", [x, f"{to}_b1"], [f"{to}_rest"]),
        node("Sub", [f"{to}_rest", "theta1"], [f"{to}_r"]),
        node("Mul", [alpha, f"{to}_r"], [f"{to}_turned_r"]),
        node("GreaterOrEqual", [f"{to}_turned_r", "zero"], [f"{to}_bit2"]),
        node("Where", [f"{to}_bit2", "one", "minus"], [f"{to}_b2"]),
        node("Abs", [f"{to}_r"], [f"{to}_size"]),
        node("ReduceMean", [f"{to}_size", axes], [f"{to}_s"], keepdims=1),
        node("Mul", [f"{to}_s", f"{to}_b2"], [f"{to}_scaled"]),
        node("Add", [f"{to}_b1", f"{to}_scaled"], [f"{to}_sum"]),
        node("Sub", [f"{to}_sum", "theta2"], [to]),
    ]
