"""Dual-scale layers and epilogues, lowered and run, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.lower import lower
from bicompile.meaning import ROUNDINGS
from bicompile.memory import plan_memory
from bicompile.ops import DOMAIN, function_protos, pack_bits
from bicompile.pipeline import tensor_specs
from bicompile.program import Program
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target
from bicompile.workloads import KIND

TARGETS = {"emulator": "cortex-a53", "host": "host"}
LARGEST = 8.0
"""More than a product of both planes can be in size: 1, and a mean of what x and ±1 leave."""


def halves(seed: int, *shape: int) -> np.ndarray:
    """Multiples of a half, so that sums are exact in any order and some lie on a threshold."""
    return (np.random.default_rng(seed).integers(-4, 5, shape) / 2).astype(np.float32)


def signs(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1, 1], shape)


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: tuple[int, ...]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(
        graph, opset_imports=opsets, functions=function_protos(), ir_version=10
    )


def dual_layer(
    op: str,
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    axes: list[int],
    outputs: int,
    greater: tuple[int, int] = (1, 1),
    group: int = 1,
    steps: dict[str, Any] | None = None,
    thresholds: dict[str, np.ndarray] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A dual-scale layer of x and its epilogue; a step may be "x".

    What `thresholds` does not give of theta, move and theta2 are halves.
    """
    channels = x[-1]
    given = {"multiplier": np.float32(1), "shift": np.float32(0)}
    given |= {"slope": np.float32(1), "residual": np.float32(0)} | (steps or {})
    constants = {name: step for name, step in given.items() if not isinstance(step, str)}
    constants |= {"theta": halves(1, channels), "move": halves(2, channels)}
    constants |= {"theta2": halves(3, channels)} | (thresholds or {})
    constants["weights"] = pack_bits(signs(4, outputs, *kernel, channels // group))
    names = [name if name in constants else given[name] for name in given]
    node = helper.make_node
    return model_of(
        [
            node(
                "DualScale",
                ["x", "theta", "move", "theta2"],
                ["bits", "scale"],
                "binarize",
                domain=DOMAIN,
                greater=greater[0],
                greater2=greater[1],
                group=group,
                axes=axes,
            ),
            node(
                op,
                ["bits", "weights"],
                ["sums"],
                "layer",
                domain=DOMAIN,
                channels=channels // group,
                **({} if op == "BinaryLinear" else {"group": group, **attributes}),
            ),
            node("DualEpilogue", ["sums", "scale", *names], ["y"], "finish", domain=DOMAIN),
        ],
        constants,
        x,
    )


def check(model: onnx.ModelProto, device: str, folder: Path, *, products: int = 0) -> Program:
    """Lower, build and run; onnxruntime must give the same bits. Returns the program.

    Where the mean is no short number, sums of `products` may be rounded otherwise: see meaning.
    """
    target = find_target(TARGETS[device])
    program = lower(model)
    scheduled = schedule_program(program, target.arch)
    plan = plan_memory(scheduled)
    build_object(scheduled, plan, target, folder / "model.o")
    executable = Executable(
        folder / "model.o", ENTRY, *tensor_specs(model, scheduled), plan.workspace_bytes, target
    )
    x = halves(0, 3, *scheduled.buffers["input"].shape)
    with open_device(device).load(executable) as loaded:
        outputs = loaded.run(x).outputs
    reference = session(model)
    for given_x, found in zip(x, outputs, strict=True):
        (expected,) = reference.run(None, {"x": given_x})
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDINGS * LARGEST * products)
    return program


def kinds(program: Program) -> list[str]:
    return [str(program.kernels[call.kernel].attrs.get(KIND, "")) for call in program.calls]


def shapes(program: Program, kind: str) -> dict[str, tuple[int, ...]]:
    """Of the operands of the one kernel of a kind, by name."""
    (kernel,) = (k for k in program.kernels.values() if k.attrs.get(KIND) == kind)
    return {p.name: tuple(int(dim) for dim in p.ty.shape) for p in kernel.params}


AFFINE = {"multiplier": np.float32(0.5), "shift": halves(5, 1, 1, 32), "slope": np.float32(0.25)}


@pytest.mark.parametrize("device", TARGETS)
def test_a_linear_layer_is_two_kernels(device: str, tmp_path: Path) -> None:
    model = dual_layer("BinaryLinear", (1, 4, 128), (), axes=[2], outputs=32, steps=AFFINE)
    assert kinds(check(model, device, tmp_path)) == ["dual_scale", "popcount_epilogue"]


MULTIPLIERS = {
    "a scalar": (np.float32(0.5), (1,)),
    "one in an axis": (np.full(1, 0.5, np.float32), (1,)),
    "equal ones": (np.full(32, 0.5, np.float32), (1,)),
    "others": (halves(6, 32), (32,)),
    "a step that is none": (np.ones(32, np.float32), None),
}


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("device", TARGETS)
def test_equal_multipliers_are_one(device: str, multiplier: str, tmp_path: Path) -> None:
    given, expected = MULTIPLIERS[multiplier]
    steps = {**AFFINE, "multiplier": given}
    model = dual_layer("BinaryLinear", (1, 4, 128), (), axes=[2], outputs=32, steps=steps)
    program = check(model, device, tmp_path)
    assert shapes(program, "popcount_epilogue").get("multiplier") == expected


def numbers(theta: float, move: float, theta2: float) -> dict[str, np.ndarray]:
    """Thresholds that all 64 channels share."""
    given = {"theta": theta, "move": move, "theta2": theta2}
    return {name: np.full(64, number, np.float32) for name, number in given.items()}


UNIFORM = {
    "a second that is the shift": (numbers(0.5, 0.25, 0.25), 1),
    "a second that is another": (numbers(0.5, 0.25, -0.5), 1),
    "a second that no float beside it reads from x": (numbers(-0.5, 1.0, 1.0), 1),
    "shifts of every channel": (numbers(0.5, 0, 0.5) | {"move": halves(2, 64)}, 64),
    "thresholds of every channel": (numbers(0, 0, 0) | {"theta": halves(1, 64)}, 64),
}


@pytest.mark.parametrize("case", UNIFORM)
@pytest.mark.parametrize("device", TARGETS)
@pytest.mark.parametrize("axes", [[2], [1, 2]])
def test_thresholds_are_one_number_each_where_all_of_them_are(
    device: str, case: str, axes: list[int], tmp_path: Path
) -> None:
    thresholds, size = UNIFORM[case]
    model = dual_layer(
        "BinaryLinear",
        (1, 4, 64),
        (),
        axes=axes,
        outputs=4,
        greater=(1, 0),
        thresholds=thresholds,
    )
    found = shapes(check(model, device, tmp_path, products=64), "dual_scale")
    assert {found[name] for name in ("theta", "shift", "theta2")} == {(size,)}


@pytest.mark.parametrize("device", TARGETS)
def test_a_residual_is_added_in_the_same_kernel(device: str, tmp_path: Path) -> None:
    steps = {"residual": "x", "multiplier": halves(6, 128), "slope": np.float32(-0.5)}
    model = dual_layer("BinaryLinear", (1, 5, 128), (), axes=[2], outputs=128, steps=steps)
    assert kinds(check(model, device, tmp_path)) == ["dual_scale", "popcount_epilogue"]


@pytest.mark.parametrize("device", TARGETS)
def test_shifts_that_are_the_same_at_every_position_are_one_for_an_output(
    device: str, tmp_path: Path
) -> None:
    shift = np.broadcast_to(halves(7, 1, 1, 1, 8), (1, 4, 4, 8))
    model = dual_layer(
        "BinaryConv2d",
        (1, 8, 8, 16),
        (3, 3),
        axes=[1, 2, 3],
        outputs=8,
        steps={"shift": np.ascontiguousarray(shift)},
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        border=0,
        dilations=[1, 1],
    )
    assert shapes(check(model, device, tmp_path), "popcount_conv")["shift"] == (1, 8)


@pytest.mark.parametrize("device", TARGETS)
def test_a_padded_convolution_has_products_of_its_own(device: str, tmp_path: Path) -> None:
    model = dual_layer(
        "BinaryConv2d",
        (1, 8, 8, 16),
        (3, 3),
        axes=[1, 2, 3],
        outputs=8,
        steps={"shift": halves(7, 1, 4, 4, 8), "multiplier": halves(8, 8)},
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        border=0,
        dilations=[1, 1],
    )
    assert kinds(check(model, device, tmp_path)) == ["dual_scale", "popcount_conv"]


def depthwise(frames: int, steps: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A layer of five taps over 32 channels."""
    return dual_layer(
        "BinaryConv1d",
        (1, frames, 32),
        (5,),
        axes=[1],
        outputs=32,
        group=32,
        greater=(0, 1),
        steps=steps,
        strides=[1],
        pads=[0, 0],
        border=0,
        dilations=[1],
    )


@pytest.mark.parametrize("device", TARGETS)
def test_a_depthwise_convolution_has_a_scale_for_every_channel(device: str, tmp_path: Path) -> None:
    model = depthwise(16, AFFINE)
    assert "dual_scale" in kinds(check(model, device, tmp_path))


@pytest.mark.parametrize("multiplier", [AFFINE["multiplier"], np.full(32, 0.5, np.float32)])
@pytest.mark.parametrize("device", TARGETS)
def test_a_short_depthwise_layer_takes_equal_multipliers_as_one(
    device: str, multiplier: np.ndarray, tmp_path: Path
) -> None:
    model = depthwise(8, {**AFFINE, "multiplier": multiplier})
    program = check(model, device, tmp_path)
    assert shapes(program, "dual_depthwise")["multiplier"] == (1,)


@pytest.mark.parametrize("axes", [[0, 2], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize("channels", [5, 64])
def test_a_mean_may_be_over_several_rows(axes: list[int], channels: int, tmp_path: Path) -> None:
    model = dual_layer("BinaryLinear", (2, 3, channels), (), axes=axes, outputs=3)
    check(model, "emulator", tmp_path, products=channels)


@pytest.mark.parametrize("axes", [[1], [1, 2], [0, 1], [2, 3]])
def test_a_mean_of_a_depthwise_layer_may_be_over_some_positions(
    axes: list[int], tmp_path: Path
) -> None:
    # The window moves along the axes of the mean alone.
    kernel = [3 if axis in axes else 1 for axis in (1, 2)]
    model = dual_layer(
        "BinaryConv2d",
        (2, 4, 5, 6),
        tuple(kernel),
        axes=axes,
        outputs=6,
        group=6,
        strides=[1, 1],
        pads=[0, 0, 0, 0],
        border=0,
        dilations=[1, 1],
    )
    check(model, "emulator", tmp_path, products=9)


@pytest.mark.parametrize("channels", [1, 9, 24, 40])
@pytest.mark.parametrize("greater", [(1, 0), (0, 0)])
def test_any_channels_are_packed(channels: int, greater: tuple[int, int], tmp_path: Path) -> None:
    model = dual_layer("BinaryLinear", (1, 3, channels), (), axes=[2], outputs=4, greater=greater)
    check(model, "emulator", tmp_path, products=channels)
