from pathlib import Path

import numpy as np
import onnx
import pytest
from disassembly import functions
from networks import model_of
from onnx import helper

from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.check import session
from bicompile.devices import RunResult, open_device
from bicompile.driver import ENTRY
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.pipeline import tensor_specs
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target

TARGET = find_target("cortex-a53")
node = helper.make_node


def run(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> RunResult:
    program = schedule_program(lower(onnx.shape_inference.infer_shapes(model)), TARGET.arch)
    plan = plan_memory(program)
    build_object(program, plan, TARGET, folder / "model.o")
    specs = tensor_specs(model, program)
    executable = Executable(folder / "model.o", ENTRY, *specs, plan.workspace_bytes, TARGET)
    with open_device("emulator").load(executable) as loaded:
        return loaded.run(x[None])


def check(model: onnx.ModelProto, folder: Path) -> None:
    """The emulator gives what onnxruntime gives, but for the order of sums."""
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (expected,) = session(model).run(None, {"x": x})
    found = run(model, x, folder).outputs[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [[1], [2], [3], [1, 2], [2, 3], [1, 3], [1, 2, 3]])
@pytest.mark.parametrize("shape", [(1, 8, 4, 16), (1, 3, 5, 7)])
def test_a_mean_along_any_axes_is_right(
    shape: tuple[int, ...], axes: list[int], tmp_path: Path
) -> None:
    reduced = [1 if axis in axes else size for axis, size in enumerate(shape)]
    nodes = [
        node("Abs", ["x"], ["size"]),
        node("ReduceMean", ["size", "axes"], ["mean"], keepdims=1),
        node("Sub", ["x", "mean"], ["y"]),
    ]
    model = model_of(nodes, {"axes": np.array(axes, np.int64)}, x=shape, y=shape)
    assert reduced != list(shape)
    check(model, tmp_path)


@pytest.mark.parametrize("length", [1, 3, 8, 21, 64])
def test_a_chain_of_elementwise_ops_is_right_at_any_length(length: int, tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "k"], ["m"]),
        node("PRelu", ["m", "slope"], ["p"]),
        node("Add", ["p", "x"], ["s"]),
        node("Transpose", ["s"], ["y"], perm=[0, 2, 1]),
    ]
    constants = {"k": np.float32(-1.5), "slope": np.full((1, 1), 0.25, np.float32)}
    check(model_of(nodes, constants, x=(1, 3, length), y=(1, length, 3)), tmp_path)


def test_a_padded_convolution_is_right(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((6, 2, 3, 3)).astype(np.float32)
    nodes = [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])]
    check(model_of(nodes, {"w": weights}, x=(1, 2, 7, 5), y=(1, 6, 4, 5)), tmp_path)


@pytest.mark.parametrize("terms", [4, 8, 30, 1024])
@pytest.mark.parametrize("outputs", [4, 12, 16, 20])
def test_a_product_of_one_row_is_right(terms: int, outputs: int, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((terms, outputs)).astype(np.float32)
    nodes = [node("Gemm", ["x", "w"], ["y"])]
    check(model_of(nodes, {"w": weights / terms}, x=(1, terms), y=(1, outputs)), tmp_path)


def test_a_product_with_a_matrix_is_right(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((33, 5)).astype(np.float32)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    check(model_of(nodes, {"w": weights}, x=(1, 4, 33), y=(1, 4, 5)), tmp_path)


def test_a_chain_is_one_pass_over_the_data(tmp_path: Path) -> None:
    nodes = [node("Abs", ["x"], ["v0"])]
    nodes += [node("Add", [f"v{i}", "k"], [f"v{i + 1}"]) for i in range(6)]
    nodes += [node("Relu", ["v6"], ["y"])]
    model = model_of(nodes, {"k": np.float32(0.5)}, x=(1, 4096), y=(1, 4096))
    result = run(model, np.zeros((1, 4096), np.float32), tmp_path)
    assert result.instructions is not None
    # Eight operations on vectors of four; loads, stores and the loop are less than as much again.
    assert result.instructions[0] < 2 * 8 * 4096 / 4
    assert result.stack_bytes is not None
    assert result.stack_bytes < 256


@pytest.mark.parametrize("channels", [4, 12, 16, 32, 64, 96])
@pytest.mark.parametrize("perm", [[0, 2, 1, 3], [2, 0, 1, 3]])
def test_rows_are_moved_right_whatever_their_length(
    perm: list[int], channels: int, tmp_path: Path
) -> None:
    shape = (2, 5, 8, channels)
    moved = node("Transpose", ["x"], ["y"], perm=perm)
    check(model_of([moved], {}, x=shape, y=tuple(shape[axis] for axis in perm)), tmp_path)


def test_moving_rows_takes_little_code_and_hardly_more_than_its_loads_and_stores(
    tmp_path: Path,
) -> None:
    moved = node("Transpose", ["x"], ["y"], perm=[0, 2, 1, 3])
    shape = (1, 8, 8, 32)
    result = run(model_of([moved], {}, x=shape, y=shape), np.zeros(shape, np.float32), tmp_path)
    assert result.instructions is not None
    assert result.instructions[0] < 2 * 2 * 8 * 8 * 32 / 8  # pairs of vectors of four
    assert max(map(len, functions(tmp_path / "model.o").values())) < 80
