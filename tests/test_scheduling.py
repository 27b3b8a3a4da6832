import numpy as np
import onnx
import pytest
from networks import model_of
from onnx import helper

from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.program import Program
from bicompile.scheduling import schedule_program


@pytest.fixture(scope="module")
def padded_convolution() -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1])
    return model_of([node], {"w": weights}, x=(1, 4, 96, 96), y=(1, 4, 96, 96))


def scratch_of(program: Program) -> list[str]:
    return [name for name in program.buffers if name.startswith("scratch")]


def test_a_large_buffer_of_a_kernel_is_in_the_workspace(
    padded_convolution: onnx.ModelProto,
) -> None:
    program = schedule_program(lower(padded_convolution), "aarch64")
    assert scratch_of(program)
    assert all(name in plan_memory(program).offsets for name in scratch_of(program))
    assert plan_memory(program).workspace_bytes >= 4 * 98 * 98 * 4


def test_every_call_has_scratch_of_its_own(padded_convolution: onnx.ModelProto) -> None:
    program = schedule_program(lower(padded_convolution), "aarch64")
    used = [name for call in program.calls for name in call.outputs]
    assert len(used) == len(set(used))


def test_a_call_passes_what_its_kernel_takes(padded_convolution: onnx.ModelProto) -> None:
    program = schedule_program(lower(padded_convolution), "aarch64")
    for call in program.calls:
        parameters = program.kernels[call.kernel].params
        assert len(parameters) == len(call.inputs) + len(call.outputs)
