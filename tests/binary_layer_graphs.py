"""Single binary layers, and what is asserted of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from graphs import (
    SIGN,
    applied,
    assert_same,
    decisions,
    dual_scale,
    floats,
    ops_of,
)
from networks import binarized, model_of, signs
from onnx import helper

from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

CONV1, CONV2 = (1, 5, 7), (1, 5, 6, 7)
"""Inputs of a convolution over one axis and over two."""


def weights_of(seed: int, *shape: int) -> np.ndarray:
    return signs(np.random.default_rng(seed), *shape)


def shape_after(nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], x: Any) -> Any:
    """What the nodes make of x; model_of wants it said."""
    probe = model_of(nodes, constants, x=x, y=())
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(probe, strict_mode=True, data_prop=True)
    return [dim.dim_value for dim in found.graph.output[0].type.tensor_type.shape.dim]


def layer(
    op: str,
    x: tuple[int, ...],
    weights: np.ndarray,
    *,
    axes: Sequence[int] | None = None,
    bias: np.ndarray | None = None,
    slope: float = 1.0,
    theta: Any = 0.1,
    theta2: Any = 0.3,
    single: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A sign or a dual-scale sum of `x`, and one layer named `layer`."""
    constants = {**SIGN, "theta": theta, "theta1": 0.2, "theta2": theta2, "alpha": slope}
    constants = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    constants["weights"] = weights
    constants["axes"] = np.array(range(1, len(x)) if axes is None else axes)
    inputs = ["a", "weights"]
    if bias is not None:
        constants["bias"] = bias
        inputs.append("bias")
    nodes = binarized("x", "theta", "a") if single else dual_scale("x", "a", "axes")
    nodes = [*nodes, helper.make_node(op, inputs, ["y"], "layer", **attributes)]
    return model_of(nodes, constants, x=x, y=shape_after(nodes, constants, x))


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    return applied(model, normalise_sign, remove_unused, binary_layers, remove_unused)


def binary_ops(model: onnx.ModelProto) -> list[str]:
    return [op for op in ops_of(model) if op.startswith("Binary")]


def assert_binary(model: onnx.ModelProto, op: str, planes: int, *inputs: np.ndarray) -> None:
    """The layer becomes `planes` binary ops, and gives the same."""
    after = rewritten(model)
    assert binary_ops(after) == [op] * planes, decisions(after)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert_same(model, after, *(inputs or [floats(seed, *shape) for seed in range(3)]))


def assert_float(model: onnx.ModelProto, *reasons: str) -> None:
    """No layer becomes binary; the graph is as it was, and says why."""
    before = applied(model, normalise_sign, remove_unused)
    after = applied(before, binary_layers)
    assert decisions(after) == list(reasons)
    assert [node.output for node in after.graph.node] == [node.output for node in before.graph.node]
    assert [t.name for t in after.graph.initializer] == [t.name for t in before.graph.initializer]


LOOKS = "float with ±1 weights: "
