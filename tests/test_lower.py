from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import pytest
from graphs import inferred
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.errors import UserError
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.ops import DOMAIN, function_protos, pack_bits
from bicompile.pipeline import tensor_specs
from bicompile.program import Program
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target
from bicompile.workloads import KIND

TARGET = find_target("cortex-a53")


def binary_model(
    op: str, x: tuple[int, ...], weights: np.ndarray, *, greater: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Threshold, one binary op, and its sums as float32."""
    channels, group = x[-1], attributes.get("group", 1)
    threshold = np.random.default_rng(channels).integers(-2, 3, channels).astype(np.float32)
    given = {"channels": channels // group, **attributes}
    nodes = [
        helper.make_node(
            "Threshold",
            ["x", "threshold"],
            ["bits"],
            "pack",
            domain=DOMAIN,
            greater=greater,
            group=group,
        ),
        helper.make_node(op, ["bits", "weights"], ["sums"], "layer", domain=DOMAIN, **given),
        helper.make_node("Cast", ["sums"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(x))],
        [
            numpy_helper.from_array(threshold, "threshold"),
            numpy_helper.from_array(pack_bits(weights), "weights"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(
        graph, opset_imports=opsets, functions=function_protos(), ir_version=10
    )


def check(model: onnx.ModelProto, folder: Path) -> None:
    """Lower, build and run on the emulator; onnxruntime must give the same bits."""
    program = schedule_program(lower(model), TARGET.arch)
    plan = plan_memory(program)
    build_object(program, plan, TARGET, folder / "model.o")
    executable = Executable(
        folder / "model.o", ENTRY, *tensor_specs(model, program), plan.workspace_bytes, TARGET
    )
    shape = program.buffers["input"].shape
    x = np.random.default_rng(0).integers(-3, 4, (3, *shape)).astype(np.float32)
    with open_device("emulator").load(executable) as loaded:
        outputs = loaded.run(x).outputs
    reference = session(model)
    for given_x, found in zip(x, outputs, strict=True):
        (expected,) = reference.run(None, {"x": given_x})
        np.testing.assert_array_equal(found, expected)


def weights(*shape: int) -> np.ndarray:
    return networks.signs(np.random.default_rng(sum(shape)), *shape)


def conv_model(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    outputs: int,
    *,
    batch: int = 1,
    group: int = 1,
    strides: tuple[int, ...] = (1, 1),
    pads: tuple[int, ...] = (0, 0, 0, 0),
    border: int = 0,
    dilations: tuple[int, ...] = (1, 1),
    greater: int = 1,
) -> onnx.ModelProto:
    """A convolution over one axis or two; `image` ends with the channels of all groups."""
    return binary_model(
        f"BinaryConv{len(kernel)}d",
        (batch, *image),
        weights(outputs, *kernel, image[-1] // group),
        group=group,
        strides=strides,
        pads=pads,
        border=border,
        dilations=dilations,
        greater=greater,
    )


@pytest.mark.parametrize(
    "model",
    [
        conv_model((8, 8, 1), (5, 5), 6, pads=(2, 2, 2, 2)),
        conv_model((6, 5, 20), (3, 3), 7, pads=(1, 0, 2, 3)),
        conv_model((9, 9, 3), (2, 3), 4, strides=(3, 2), pads=(0, 2, 1, 0), greater=0),
        conv_model((9, 8, 9), (3, 2), 5, dilations=(2, 3), pads=(2, 3, 2, 3)),
        conv_model((2, 2, 8), (2, 2), 3, pads=(2, 2, 2, 2)),
        conv_model((4, 4, 128), (1, 1), 8),
        conv_model((4, 4, 13), (1, 1), 2, strides=(2, 2)),
        conv_model((1, 1, 1), (1, 1), 1),
        conv_model((5, 4, 9), (3, 2), 4, batch=3, pads=(1, 1, 1, 0)),
        conv_model((4, 3, 36), (2, 2), 8, batch=2, group=4, pads=(1, 0, 1, 2), dilations=(1, 2)),
        conv_model((7, 6, 16), (3, 2), 16, batch=2, group=16, pads=(1, 0, 2, 1), strides=(2, 1)),
        conv_model((7, 6, 8), (3, 3), 24, group=8, dilations=(2, 1)),
        conv_model((12, 11, 2), (12, 11), 2, group=2),
        conv_model((11, 9), (3,), 5, strides=(2,), pads=(2, 1), dilations=(2,)),
        conv_model((12, 32), (5,), 32, group=32, strides=(1,), pads=(0, 0), dilations=(1,)),
        conv_model((8, 8, 16), (5, 5), 32, strides=(2, 2), pads=(2, 2, 2, 2), border=-1),
        conv_model((6, 5, 20), (3, 3), 7, pads=(1, 0, 2, 3), border=1),
        conv_model((7, 6, 16), (3, 2), 16, batch=2, group=16, pads=(1, 0, 2, 1), border=-1),
        conv_model((12, 5), (5,), 5, group=5, strides=(1,), pads=(2, 2), border=1, dilations=(1,)),
    ],
    ids=[
        "padded on all sides",
        "odd channels and uneven padding",
        "strides",
        "dilations",
        "borders of padding only",
        "rows that need no copy",
        "strided 1x1",
        "one bit",
        "a batch",
        "groups of a batch",
        "depthwise of a batch with strides",
        "depthwise with three outputs a channel",
        "depthwise with more taps than a byte counts",
        "over one axis",
        "depthwise over one axis",
        "a border of -1",
        "a border of +1",
        "depthwise with a border of -1",
        "depthwise with a border of +1",
    ],
)
def test_a_binary_convolution_gives_what_onnxruntime_gives(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    check(model, tmp_path)


@pytest.mark.parametrize(
    ("x", "outputs"), [((1, 1), 1), ((1, 20), 7), ((3, 128), 5), ((1, 2, 3, 130), 4), ((7, 250), 3)]
)
def test_a_binary_linear_layer_gives_what_onnxruntime_gives(
    x: tuple[int, ...], outputs: int, tmp_path: Path
) -> None:
    check(binary_model("BinaryLinear", x, weights(outputs, x[-1])), tmp_path)


@st.composite
def convolutions(draw: st.DrawFn) -> onnx.ModelProto:
    spatial, group = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 16]))

    def each(low: int, high: int, count: int = spatial) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    kernel, dilations, pads = each(1, 3), each(1, 2), each(0, 2, 2 * spatial)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    image = [max(size, reach[i] - pads[i] - pads[i + spatial]) for i, size in enumerate(each(1, 7))]
    return conv_model(
        (*image, group * draw(st.integers(1, 20))),
        kernel,
        group * draw(st.integers(1, 4)),
        batch=draw(st.integers(1, 2)),
        group=group,
        strides=each(1, 3),
        pads=pads,
        border=draw(st.integers(-1, 1)),
        dilations=dilations,
        greater=draw(st.integers(0, 1)),
    )


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(model=convolutions())
def test_any_binary_convolution_gives_what_onnxruntime_gives(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    check(model, tmp_path)


@pytest.fixture(scope="module")
def lowered(compiled_folder: Path) -> onnx.ModelProto:
    return onnx.load(compiled_folder / "lowered.onnx")


@pytest.fixture(scope="module")
def program(lowered: onnx.ModelProto) -> Program:
    return lower(lowered)


def test_a_binary_kernel_is_named_after_its_node(
    lowered: onnx.ModelProto, program: Program
) -> None:
    named = {
        call.layer: str(program.kernels[call.kernel].attrs[KIND])
        for call in program.calls
        if call.layer
    }
    nodes = {node.name for node in lowered.graph.node if node.domain == DOMAIN}
    assert set(named) <= nodes
    assert "threshold" in named.values()


def test_lowering_twice_gives_the_same_program(lowered: onnx.ModelProto, program: Program) -> None:
    once, twice = program, lower(lowered)
    assert (once.calls, once.buffers) == (twice.calls, twice.buffers)
    assert list(once.kernels) == list(twice.kernels)
    assert {n: c.tobytes() for n, c in once.constants.items()} == {
        n: c.tobytes() for n, c in twice.constants.items()
    }


def test_equal_constants_stand_in_the_program_once() -> None:
    generator = np.random.default_rng(0)
    same = generator.standard_normal((4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["y"]),
    ]
    model = networks.model_of(nodes, {"first": same, "second": same}, x=(1, 4), y=(1, 4))
    assert [c.size for c in lower(inferred(model)).constants.values()].count(same.size) == 1


def test_kernels_that_do_the_same_stand_in_the_program_once() -> None:
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in ("xh", "hi", "iy")]
    model = networks.model_of(nodes, {"w": np.eye(4, dtype=np.float32)}, x=(1, 4), y=(1, 4))
    program = lower(inferred(model))
    assert len(program.kernels) == 1
    assert len(program.calls) == 3


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [helper.make_node("Identity", ["constant"], ["y"])],
    ],
    ids=["identity", "reshape", "constant"],
)
def test_a_model_that_computes_nothing_is_refused(nodes: list[onnx.NodeProto]) -> None:
    constants = {"shape": np.array([1, 4]), "constant": np.ones((1, 4), np.float32)}
    with pytest.raises(UserError, match="the model computes nothing: its output is its input or"):
        lower(networks.model_of(nodes, constants, x=(1, 4), y=(1, 4)))


def test_an_op_that_the_importer_does_not_know_is_told_with_its_node() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"], "first"),
        helper.make_node("Det", ["hidden"], ["scalar"], "the/determinant"),
        helper.make_node("Add", ["hidden", "scalar"], ["y"], "last"),
    ]
    with pytest.raises(UserError) as caught:
        lower(networks.model_of(nodes, {}, x=(1, 4, 4), y=(1, 4, 4)))
    message = str(caught.value)
    assert "Det" in message
    assert "the/determinant" in message
    assert "\n" not in message


def test_a_form_that_the_importer_does_not_take_is_told_with_its_node(
    capfd: pytest.CaptureFixture[str],
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "over/four/axes")
    constants = {"w": np.ones((1, 1, 1, 1, 1, 1), np.float32)}
    shape = (1, 1, 2, 2, 2, 2)
    with pytest.raises(UserError, match=r"^node over/four/axes is Conv in a form that cannot be"):
        lower(networks.model_of([node], constants, x=shape, y=shape))
    assert not capfd.readouterr().out  # it would stand before the JSON


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_a_convolution_with_an_infinite_weight_is_named(bad: float) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "over/all", pads=[1, 1])
    constants = {"w": np.array([[[1, bad, 1]]], np.float32)}
    with pytest.raises(UserError, match=r"^node over/all is Conv with weights that are not finite"):
        lower(networks.model_of([node], constants, x=(1, 1, 4), y=(1, 1, 4)))
