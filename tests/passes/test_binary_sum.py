"""What an activation is read as: factors, scales, signs and constants."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import SIGN, applied, floats, inferred, run
from networks import binarized, model_of
from onnx import helper

from bicompile.passes.binary_sum import BinarySum, NotBinaryError, read_binary_sum
from bicompile.passes.graph import constant
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

SHAPE = (1, 2, 4)
CONSTANTS = {
    **SIGN,
    "theta": np.array([[0.5], [-1]], np.float32),
    "half": np.float32(0.5),
    "three": np.float32(3),
    "shift": np.array([[0.25], [2]], np.float32),
    "per_channel": np.array([[0.5], [2]], np.float32),
    "turn": np.array([[1], [-1]], np.float32),
    "pads": np.array([0, 0, 1, 0, 0, 1]),
    "bad": np.float32([np.inf]),
}
Op = tuple[str, list[str], dict[str, Any]]


def read(*ops: Op) -> tuple[BinarySum, onnx.ModelProto, ir.Value]:
    """Ops after two signs `b` and `c` of x and a scale `s`; `_` is what came before."""
    nodes = [
        *binarized("x", "theta", "b"),
        *binarized("x", "half", "c"),
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["s"], keepdims=1),
    ]
    value = "b"
    for index, (op, inputs, attributes) in enumerate(ops):
        result = "y" if index == len(ops) - 1 else f"v{index}"
        names = [value if name == "_" else name for name in inputs]
        nodes.append(helper.make_node(op, names, [result], f"op{index}", **attributes))
        value = result
    model = model_of(nodes, CONSTANTS, x=SHAPE, y=())
    model.graph.output[0].type.tensor_type.ClearField("shape")
    after = applied(onnx.shape_inference.infer_shapes(model), normalise_sign, remove_unused)
    (output,) = ir.from_proto(after).graph.outputs
    return read_binary_sum(output), after, output


def value_of(found: BinarySum, model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The sum, computed from its parts with what onnxruntime gives for these."""
    total: Any = sum(found.constants, np.float32(0))
    for term in found.terms:
        of_x = seen(model, term.sign.x, x)
        compared = of_x >= term.sign.theta if term.sign.greater else of_x <= term.sign.theta
        scale = np.float32(1) if term.scale is None else seen(model, term.scale, x)
        total = total + np.float32(term.factor) * scale * np.where(compared, 1, -1)
    return np.asarray(total, np.float32)


def seen(model: onnx.ModelProto, value: ir.Value, x: np.ndarray) -> np.ndarray:
    array = constant(value)
    if array is not None:
        return array
    if value.name == "x":
        return x
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.append(onnx.ValueInfoProto(name=value.name))
    return run(watched, x)


@pytest.mark.parametrize(
    ("ops", "of_x", "constants"),
    [
        ([("Mul", ["_", "three"], {})], [True], 0),
        ([("Sub", ["_", "shift"], {})], [True], 1),
        ([("Mul", ["s", "_"], {}), ("Neg", ["_"], {})], [True], 0),
        ([("Mul", ["_", "s"], {}), ("Add", ["_", "c"], {})], [True, True], 0),
        ([("Mul", ["_", "s"], {}), ("Add", ["_", "c"], {}), ("Mul", ["half", "_"], {}),
          ("Sub", ["shift", "_"], {})], [True, True], 1),
        ([("Mul", ["_", "per_channel"], {})], [True], 0),
        ([("Mul", ["_", "turn"], {})], [False], 0),
        ([("Mul", ["b", "c"], {})], [False], 0),
        ([("Mul", ["b", "c"], {}), ("Mul", ["_", "s"], {})], [False], 0),
        ([("MaxPool", ["_"], {"kernel_shape": [2]})], [False], 0),
        ([("MaxPool", ["_"], {"kernel_shape": [2]}), ("Sub", ["_", "shift"], {})], [False], 1),
        ([("Pad", ["_", "pads", "one"], {})], [False], 0),
        ([("Concat", ["b", "c"], {"axis": 1})], [False], 0),
    ],
)  # fmt: skip
def test_a_sum_is_read_into_signs_of_what_was_compared_or_of_themselves(
    ops: list[Op], of_x: list[bool], constants: int
) -> None:
    found, model, _ = read(*ops)
    assert [term.sign.x.name == "x" for term in found.terms] == of_x
    assert len(found.constants) == constants
    for seed in range(3):
        x = floats(seed, *SHAPE)
        np.testing.assert_allclose(value_of(found, model, x), run(model, x), rtol=1e-6, atol=1e-6)


def test_a_choice_by_a_computed_threshold_is_a_sign_of_itself() -> None:
    found, model, output = read(
        ("GreaterOrEqual", ["x", "s"], {}), ("Where", ["_", "three", "minus"], {})
    )
    (term,) = found.terms
    assert term.sign.x is output
    x = floats(0, *SHAPE)
    np.testing.assert_array_equal(value_of(found, model, x), run(model, x))


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (("Add", ["_", "x"], {}), r"its input x is not a sum of ±1 tensors with scales$"),
        (("Mul", ["x", "x"], {}), r"its input y \(from Mul\) is not a sum of ±1 .* scales$"),
        (("Add", ["_", "bad"], {}), r"the constant bad in its input is not finite"),
        (("AveragePool", ["_"], {"kernel_shape": [2]}), r"its input y \(from AveragePool\) is not"),
        (("Sign", ["x"], {}), r"it takes the value 0 at 0, .* has no bit, --sign-of-zero plus or"),
        (("Round", ["x"], {}), r": it takes more than 8 values$"),
    ],
)
def test_what_is_no_sum_of_signs_is_named_with_the_reason(op: Op, reason: str) -> None:
    with pytest.raises(NotBinaryError, match=reason):
        read(op)


def test_the_reason_is_found_behind_a_move() -> None:
    with pytest.raises(NotBinaryError, match="--sign-of-zero plus or minus"):
        read(("Sign", ["x"], {}), ("Flatten", ["_"], {}))


def test_a_scaled_sign_with_zeros_names_the_option() -> None:
    with pytest.raises(NotBinaryError, match="--sign-of-zero plus or minus"):
        read(("Sign", ["x"], {}), ("Mul", ["_", "s"], {}))


def test_a_constant_is_no_sum_of_signs() -> None:
    model = inferred(
        model_of([helper.make_node("Neg", ["c"], ["y"])], {"c": np.float32([1])}, x=[1], y=[1])
    )
    with pytest.raises(NotBinaryError, match="its input is constant"):
        read_binary_sum(ir.from_proto(model).graph.node(0).inputs[0])


def test_two_values_of_which_one_rounds_away_the_other_are_no_sum() -> None:
    constants = {"one": np.float32(1e38), "minus": np.float32(-1), "theta": np.float32(0)}
    model = model_of(binarized("x", "theta", "y"), constants, x=SHAPE, y=SHAPE)
    (output,) = ir.from_proto(inferred(model)).graph.outputs
    with pytest.raises(NotBinaryError, match="is not a sum of ±1 tensors"):
        read_binary_sum(output)
