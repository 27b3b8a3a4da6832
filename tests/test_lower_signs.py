"""Layers of which only signs are used: one kernel from bits to bits, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runs import run_guarded, run_kernels
from networks import signs
from onnx import TensorProto, helper, numpy_helper

from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.devices.host import runs_here
from bicompile.driver import ENTRY
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.ops import DOMAIN, function_protos, pack_bits
from bicompile.pipeline import tensor_specs
from bicompile.program import Program
from bicompile.scheduling import schedule_program
from bicompile.sign_workloads import popcount_threshold
from bicompile.targets import find_target
from bicompile.workloads import KIND

TARGETS = {"emulator": "cortex-a53", "host": "host"}
Case = tuple[Any, tuple[np.ndarray, ...], np.ndarray]


def two_layers(
    op: str, x: tuple[int, ...], kernel: tuple[int, ...], outputs: int, seed: int, **of_layer: Any
) -> onnx.ModelProto:
    """Bits of x, a layer, the bits of its sums, and a linear layer of those."""
    generator, channels = np.random.default_rng(seed), x[-1]
    group = of_layer.get("group", 1)
    taps = channels * int(np.prod(kernel)) // group
    constants = {
        "theta": generator.standard_normal(channels).astype(np.float32),
        "weights": pack_bits(signs(generator, outputs, *kernel, channels // group)),
        "direction": generator.choice(np.int32([-1, 1]), outputs),
        "threshold": generator.integers(-taps - 1, taps + 2, outputs).astype(np.int32) // 3,
        "last": pack_bits(signs(generator, 3, outputs)),
    }
    constants["threshold"][0] = generator.choice([-(2**31) + 1, 2**31 - 1])
    node = helper.make_node
    nodes = [
        node("Threshold", ["x", "theta"], ["bits"], "pack", domain=DOMAIN, greater=1, group=group),
        node(
            op,
            ["bits", "weights"],
            ["sums"],
            "layer",
            domain=DOMAIN,
            channels=channels // group,
            **of_layer,
        ),
        node(
            "IntegerThreshold",
            ["sums", "direction", "threshold"],
            ["more"],
            "compare",
            domain=DOMAIN,
            group=1,
        ),
        node("BinaryLinear", ["more", "last"], ["all"], "last", domain=DOMAIN, channels=outputs),
        node("Cast", ["all"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(x))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(
        graph, opset_imports=opsets, functions=function_protos(), ir_version=10
    )


def check(model: onnx.ModelProto, device: str, folder: Path) -> Program:
    """Lower, build and run; onnxruntime must give the same. Returns the program."""
    target = find_target(TARGETS[device])
    program = lower(model)
    scheduled = schedule_program(program, target.arch)
    plan = plan_memory(scheduled)
    build_object(scheduled, plan, target, folder / "model.o")
    specs = tensor_specs(model, scheduled)
    executable = Executable(folder / "model.o", ENTRY, *specs, plan.workspace_bytes, target)
    x = np.random.default_rng(1).standard_normal((4, *specs[0].shape)).astype(np.float32)
    with open_device(device).load(executable) as loaded:
        found = loaded.run(x).outputs
    runs = session(model)
    for one, y in zip(x, found, strict=True):
        (expected,) = runs.run(None, {"x": one})
        np.testing.assert_array_equal(y, expected)
    return program


def kinds(program: Program) -> list[str]:
    return [str(program.kernels[call.kernel].attrs.get(KIND, "")) for call in program.calls]


LAYERS = {
    "linear": ("BinaryLinear", (5, 40), (), 24, {}),
    "few outputs": ("BinaryLinear", (2, 9), (), 3, {}),
    "odd outputs": ("BinaryLinear", (3, 130), (), 37, {}),
    "conv1d": ("BinaryConv1d", (1, 9, 16), (3,), 17, {"pads": [1, 1]}),
    "conv2d": ("BinaryConv2d", (1, 6, 5, 16), (3, 3), 32, {}),
    "padded": ("BinaryConv2d", (1, 5, 5, 8), (3, 3), 16, {"pads": [1, 1, 1, 1]}),
    "bordered": ("BinaryConv2d", (1, 5, 5, 8), (3, 3), 16, {"pads": [1] * 4, "border": -1}),
    "pixels of no whole bytes": ("BinaryConv2d", (1, 5, 6, 5), (2, 3), 9, {"pads": [0, 1, 1, 0]}),
    "a batch": ("BinaryConv2d", (3, 4, 4, 8), (3, 3), 16, {"pads": [1, 1, 1, 1]}),
    "strides": ("BinaryConv2d", (1, 7, 7, 24), (3, 3), 16, {"strides": [2, 2]}),
    "groups": ("BinaryConv2d", (1, 4, 4, 16), (3, 3), 16, {"group": 2}),
    "depthwise": ("BinaryConv1d", (1, 8, 16), (3,), 16, {"group": 16}),
}


@pytest.mark.parametrize("device", TARGETS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_and_its_signs_give_what_onnxruntime_gives(
    name: str, device: str, tmp_path: Path
) -> None:
    op, x, kernel, outputs, more = LAYERS[name]
    axes = len(kernel)
    given = {"strides": [1] * axes, "pads": [0] * 2 * axes, "dilations": [1] * axes, "group": 1}
    given["border"] = 0
    program = check(
        two_layers(op, x, kernel, outputs, 0, **({**given, **more} if axes else {})),
        device,
        tmp_path,
    )
    is_fused = name not in ("groups", "depthwise")
    assert kinds(program).count("threshold") == (1 if is_fused else 2)


def counted(seed: int, rows: int, outputs: int, used: int, limits: int) -> Case:
    """A kernel, its operands, with limits at and beside the counts, and its bits in numpy."""
    generator = np.random.default_rng(seed)
    row_bytes = -(-used // 16) * 16
    a, w = (generator.integers(0, 256, (n, row_bytes), np.uint8) for n in (rows, outputs))
    a[:, used:] = w[:, used:] = 0
    counts = np.bitwise_count(a[:, None] ^ w[None]).sum(axis=-1, dtype=np.int32)
    beside = generator.integers(-1, 2, (limits, outputs))
    limit = (counts[generator.integers(0, rows, limits)] + beside).astype(np.int32)
    limit[0, :2] = np.int32([-(2**31), 2**31 - 1])[:outputs]
    nest = popcount_threshold(rows, outputs, row_bytes, used_bytes=used, limits=limits)
    return nest, (a, w, limit), np.packbits(counts <= limit, axis=-1, bitorder="little")


SIZES = st.tuples(st.integers(1, 7), st.integers(1, 50), st.integers(1, 120), st.booleans())


@pytest.mark.parametrize("device", [*TARGETS, "avx2"])
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(SIZES, min_size=6, max_size=6), seed=st.integers(0, 2**32))
def test_any_counts_are_compared_and_packed_like_numpy(
    device: str, sizes: list[tuple[int, int, int, bool]], seed: int
) -> None:
    if device == "avx2" and not runs_here(find_target("x86-64-v3")):
        pytest.skip("this machine has no AVX2")
    cases = [
        counted(seed + i, rows, outputs, used, rows if per_row else 1)
        for i, (rows, outputs, used, per_row) in enumerate(sizes)
    ]
    for (_, _, expected), found in zip(
        cases, run_kernels([case[:2] for case in cases], device), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("rows", "outputs"), [(4, 1), (4, 8), (4, 24), (2, 48)])
def test_a_kernel_touches_nothing_outside_its_buffers(rows: int, outputs: int) -> None:
    nest, operands, expected = counted(0, rows, outputs, 20, 1)
    np.testing.assert_array_equal(run_guarded(nest, *operands), expected)
