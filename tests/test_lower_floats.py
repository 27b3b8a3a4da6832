"""Float layers with what follows, from ONNX to the emulator, against onnxruntime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import floats, inferred
from networks import model_of
from onnx import NodeProto, helper

from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.fuse_floats import fuse_floats
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.pipeline import tensor_specs
from bicompile.rewriting import run_passes
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target

node = helper.make_node


def kinds(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in fuse_floats(model).graph.node]


def check(model: onnx.ModelProto, folder: Path, device: str = "emulator") -> onnx.ModelProto:
    """The compiled model gives what onnxruntime gives, within 1e-5; returns what was lowered."""
    lowered = run_passes(inferred(model), check=True)
    target = find_target("cortex-a53" if device == "emulator" else "host")
    program = schedule_program(lower(lowered), target.arch)
    plan = plan_memory(program)
    build_object(program, plan, target, folder / "model.o")
    specs = tensor_specs(lowered, program)
    executable = Executable(folder / "model.o", ENTRY, *specs, plan.workspace_bytes, target)
    x = floats(9, *specs[0].shape)
    with open_device(device).load(executable) as loaded:
        found = loaded.run(x[None]).outputs[0]
    (expected,) = session(model).run(None, {"x": x})
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found / largest, expected / largest, rtol=1e-5, atol=1e-5)
    return lowered


AFTER: dict[str, tuple[Sequence[NodeProto], list[str]]] = {
    "nothing": ([node("Identity", ["z"], ["y"])], ["FloatLayer", "Identity"]),
    "a bias": ([node("Add", ["z", "b"], ["y"])], ["FloatLayer"]),
    "a ReLU": ([node("Relu", ["z"], ["y"])], ["FloatLayer"]),
    "a bias before it": ([node("Add", ["b", "z"], ["y"])], ["FloatLayer"]),
    "a PReLU": (
        [node("Add", ["z", "b"], ["a"]), node("PRelu", ["a", "s"], ["y"])],
        ["FloatLayer"],
    ),
    "a PReLU of slope 0": ([node("PRelu", ["z", "zero"], ["y"])], ["FloatLayer"]),
    "a PReLU of many slopes": ([node("PRelu", ["z", "many"], ["y"])], ["FloatLayer", "PRelu"]),
    "a steep PReLU": ([node("PRelu", ["z", "steep"], ["y"])], ["FloatLayer", "PRelu"]),
    "a residual": ([node("Relu", ["z"], ["r"]), node("Add", ["r", "x"], ["y"])], ["FloatLayer"]),
    "a bias after the bend": (
        [node("Relu", ["z"], ["r"]), node("Add", ["r", "b"], ["y"])],
        ["FloatLayer", "Add"],
    ),
    "two readers": (
        [node("Relu", ["z"], ["r"]), node("Add", ["r", "z"], ["y"])],
        ["FloatLayer", "Relu", "Add"],
    ),
}


@pytest.mark.parametrize("after", AFTER)
def test_what_follows_a_product_is_taken_in(after: str, tmp_path: Path) -> None:
    nodes, expected = AFTER[after]
    constants = {"w": floats(0, 12, 12), "b": floats(1, 12), "s": np.float32([-0.3])}
    constants |= {"zero": np.float32([0]), "many": np.float32(np.linspace(0, 1, 12))}
    constants |= {"steep": np.float32([2])}
    layer = node("MatMul", ["x", "w"], ["z"], "layer")
    model = model_of([layer, *nodes], constants, x=(1, 5, 12), y=(1, 5, 12))
    assert kinds(inferred(model)) == expected
    check(model, tmp_path)


@pytest.mark.parametrize("device", ["emulator", "host"])
@pytest.mark.parametrize(
    ("weights", "x", "y", "attributes"),
    [
        ((6, 4, 1, 1), (1, 4, 5, 3), (1, 6, 5, 3), {}),
        ((6, 4, 1), (1, 4, 5), (1, 6, 5), {}),
        ((6, 4, 1), (1, 4, 5), (1, 6, 7), {"pads": [1, 1]}),
        ((8, 4, 5, 5), (1, 4, 9, 8), (1, 8, 5, 4), {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
        ((12, 1, 5), (1, 12, 8), (1, 12, 8), {"group": 12, "pads": [2, 2]}),
        ((6, 4, 3), (1, 4, 9), (1, 6, 5), {"dilations": [2]}),
        ((6, 4, 3, 3), (1, 4, 9, 9), (1, 6, 5, 7), {"dilations": [2, 1]}),
        ((7, 1, 3, 3), (1, 7, 9, 9), (1, 7, 4, 4), {"group": 7, "strides": [2, 2]}),
    ],
)
def test_a_convolution_is_right(
    weights: tuple[int, ...],
    x: tuple[int, ...],
    y: tuple[int, ...],
    attributes: dict[str, object],
    device: str,
    tmp_path: Path,
) -> None:
    constants = {"w": floats(0, *weights), "b": floats(1, weights[0])}
    layer = node("Conv", ["x", "w", "b"], ["z"], "layer", **attributes)
    model = model_of([layer, node("Relu", ["z"], ["y"], "act")], constants, x=x, y=y)
    lowered = check(model, tmp_path, device)
    assert kinds(lowered).count("FloatLayer") == 1


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 2.0}, {"beta": 0.5}])
def test_a_gemm_is_right(transposed: int, attributes: dict[str, float], tmp_path: Path) -> None:
    constants = {"w": floats(0, *((12, 40) if transposed else (40, 12))), "b": floats(1, 12)}
    layer = node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=transposed, **attributes)
    model = model_of([layer], constants, x=(3, 40), y=(3, 12))
    assert kinds(check(model, tmp_path)) == [("Gemm" if attributes else "FloatLayer")]


def test_layers_in_a_row_are_not_transposed_between(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w1", "b"], ["c1"], "one", pads=[1, 1]),
        node("PRelu", ["c1", "s"], ["a1"], "act"),
        node("Conv", ["a1", "w2"], ["c2"], "two", group=4, pads=[2, 2]),
        node("BatchNormalization", ["c2", "g", "b", "m", "v"], ["n"], "norm"),
        node("Add", ["n", "a1"], ["y"], "sum"),
    ]
    constants = {"w1": floats(0, 4, 3, 3), "w2": floats(1, 4, 1, 5), "s": np.float32([0.1])}
    constants |= {"b": floats(2, 4), "g": floats(3, 4), "m": floats(4, 4)}
    constants |= {"v": np.abs(floats(5, 4)) + np.float32(0.1)}
    lowered = check(model_of(nodes, constants, x=(1, 3, 8), y=(1, 4, 8)), tmp_path)
    assert kinds(lowered) == ["Transpose", "FloatLayer", "FloatLayer", "Transpose"]
