"""What holds on every device."""

from collections.abc import Callable

import numpy as np
import pytest

from bicompile.artifact import Executable
from bicompile.devices import DEVICE_NAMES, open_device
from bicompile.errors import UserError

Program = Callable[..., Executable]

SCALE = """
static const float factor[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
void model_run(const float *input, float *output, void *workspace) {
  float *partial = workspace;
  for (int i = 0; i < 16; ++i) partial[i] = input[i] * factor[i];
  for (int i = 0; i < 16; ++i) output[i] = partial[i] + 0.5f;
}
"""
FACTOR = np.arange(1, 17, dtype=np.float32)

each_device = pytest.mark.parametrize("device", DEVICE_NAMES)


def build(program: Program, device: str, source: str, **sizes: int) -> Executable:
    return program(source, target="host" if device == "host" else "cortex-a53", **sizes)


def batch(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32)


@each_device
def test_a_program_gives_what_numpy_gives(program: Program, device: str) -> None:
    x = batch(5)
    with open_device(device).load(build(program, device, SCALE)) as loaded:
        assert np.array_equal(loaded.run(x).outputs, x * FACTOR + np.float32(0.5))


@each_device
def test_a_loaded_program_runs_again(program: Program, device: str) -> None:
    x = batch(4)
    with open_device(device).load(build(program, device, SCALE)) as loaded:
        first, second = loaded.run(x), loaded.run(x[::-1])
    assert np.array_equal(first.outputs, second.outputs[::-1])


@each_device
def test_the_workspace_is_kept_as_each_run_left_it(program: Program, device: str) -> None:
    x = batch(3)
    executable = build(program, device, SCALE, workspace=100)
    with open_device(device).load(executable) as loaded:
        workspaces = loaded.run(x, keep_workspace=True).workspaces
    assert workspaces is not None
    assert workspaces.shape == (3, 100)
    assert np.array_equal(workspaces[:, :64].copy().view(np.float32), x * FACTOR)
    assert (workspaces[:, 64:] == 0xAA).all()


@each_device
def test_the_workspace_is_not_kept_unasked(program: Program, device: str) -> None:
    with open_device(device).load(build(program, device, SCALE)) as loaded:
        assert loaded.run(batch(1)).workspaces is None


@each_device
def test_an_output_that_is_not_written_is_nan(program: Program, device: str) -> None:
    source = "void model_run(const float *x, float *y, void *w) { y[3] = x[0]; }"
    with open_device(device).load(build(program, device, source)) as loaded:
        outputs = loaded.run(batch(2)).outputs
    assert np.isnan(np.delete(outputs, 3, axis=1)).all()
    assert np.array_equal(outputs[:, 3], batch(2)[:, 0])


@each_device
def test_a_run_sees_nothing_of_the_run_before(program: Program, device: str) -> None:
    source = "void model_run(const float *x, float *y, void *w) { y[0] = (*(int *)w)++; }"
    with open_device(device).load(build(program, device, source)) as loaded:
        outputs = loaded.run(batch(3)).outputs[:, 0]
    assert (outputs == outputs[0]).all()


@each_device
def test_a_batch_may_be_empty(program: Program, device: str) -> None:
    with open_device(device).load(build(program, device, SCALE)) as loaded:
        assert loaded.run(batch(0)).outputs.shape == (0, 16)


@each_device
def test_a_program_may_need_no_workspace(program: Program, device: str) -> None:
    source = "void model_run(const float *x, float *y, void *w) { y[0] = x[0]; }"
    with open_device(device).load(build(program, device, source, workspace=0)) as loaded:
        result = loaded.run(batch(2), keep_workspace=True)
    assert result.workspaces is not None
    assert result.workspaces.shape == (2, 0)
    assert np.array_equal(result.outputs[:, 0], batch(2)[:, 0])


@each_device
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((2, 15), np.float32), r"float32 of shape \(2, 15\)"),
        (np.zeros(16, np.float32), r"float32 of shape \(16,\)"),
        (np.float32(1), r"float32 of shape \(\)"),
        (np.zeros((2, 16)), r"float64 of shape \(2, 16\)"),
    ],
)
def test_another_shape_or_dtype_is_refused(
    program: Program, device: str, wrong: np.ndarray, found: str
) -> None:
    with (
        open_device(device).load(build(program, device, SCALE)) as loaded,
        pytest.raises(UserError, match=rf"the input x has {found}; .* float32 .* \(n, 16\)"),
    ):
        loaded.run(wrong)


@each_device
def test_an_object_that_needs_a_symbol_is_refused_by_its_name(
    program: Program, device: str
) -> None:
    source = "float expf(float); void model_run(const float *x, float *y) { y[0] = expf(x[0]); }"
    with pytest.raises(UserError, match="undefined symbol: expf"):
        open_device(device).load(build(program, device, source))


@pytest.mark.parametrize("device", ["emulator", "qemu"])
def test_an_arm64_device_refuses_a_program_for_x86(program: Program, device: str) -> None:
    executable = program(SCALE, target="host")
    if executable.target.arch == "aarch64":
        pytest.skip("this machine is arm64")
    with pytest.raises(
        UserError, match=r"\.o was built for host \(x86_64\), .* runs arm64; compile with --target"
    ):
        open_device(device).load(executable)


def test_the_host_refuses_a_program_for_another_processor(program: Program) -> None:
    executable = program(SCALE, target="cortex-a53")
    if program(SCALE, target="host").target.arch == "aarch64":
        pytest.skip("this machine is arm64")
    with pytest.raises(
        UserError, match=r"built for cortex-a53 \(aarch64\), this machine is x86_64"
    ):
        open_device("host").load(executable)


def test_emulator_and_qemu_agree_bit_for_bit(program: Program) -> None:
    source = """
    void model_run(const float *x, float *y, void *w) {
      for (int i = 0; i < 16; ++i) {
        float sum = 0;
        for (int j = 0; j < 16; ++j) sum += x[j] / (1.1f + i * x[(i + j) % 16] * x[j]);
        y[i] = sum * sum + (float)(int)(100 * sum);
      }
    }
    """
    executable = program(source)
    results = []
    for device in ("emulator", "qemu"):
        with open_device(device).load(executable) as loaded:
            results.append(loaded.run(batch(20)).outputs.view(np.uint32))
    assert np.array_equal(*results)


def test_only_the_host_tells_seconds(program: Program) -> None:
    for device in DEVICE_NAMES:
        with open_device(device).load(build(program, device, SCALE)) as loaded:
            seconds = loaded.run(batch(10)).seconds
        assert (seconds is None) == (device != "host")
        if seconds is not None:
            assert 0 < seconds < 1


@pytest.mark.parametrize(
    ("name", "hint"), [("emulatr", "; did you mean emulator?"), ("QEMU", "; did you mean qemu?")]
)
def test_an_unknown_device_is_told_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        open_device(name)
    assert str(caught.value) == (
        f"unknown device '{name}': known devices are emulator, qemu, host{hint}"
    )
