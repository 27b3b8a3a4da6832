"""Mathematical functions of an object: within a unit in the last place of those in float64."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from networks import model_of
from onnx import helper

from bicompile import mathematics
from bicompile.artifact import Executable
from bicompile.build import build_object
from bicompile.devices import open_device
from bicompile.driver import ENTRY
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.pipeline import tensor_specs
from bicompile.scheduling import schedule_program
from bicompile.targets import find_target

TARGETS = {"emulator": "cortex-a53", "host": "host"}
TINY = np.finfo(np.float32).smallest_subnormal
SPECIAL = [0.0, -0.0, 1, -1, 0.5, 2, -3, TINY, -TINY, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38]
ENDS = [88.7, 88.8, -87.3, -87.4, -103.9, -104.0, 3.9, -4.1, 9.0, -9.1, 1e-5, 16777216, 16777217]


def values() -> np.ndarray:
    generator = np.random.default_rng(0)
    random = [generator.standard_normal(300) * size for size in (1e-6, 0.1, 1, 5, 30)]
    return np.concatenate([np.array(SPECIAL), np.array(ENDS), *random]).astype(np.float32)


def run(op: str, device: str, folder: Path, *operands: np.ndarray) -> np.ndarray:
    """One op, of the input and of a constant where there is another operand."""
    x, *constants = operands
    names = [f"c{i}" for i in range(len(constants))]
    nodes = [helper.make_node(op, ["x", *names], ["y"], "op")]
    arrays = dict(zip(names, constants, strict=True))
    model = model_of(nodes, arrays, x=(1, len(x)), y=(1, len(x)))
    target = find_target(TARGETS[device])
    program = schedule_program(lower(model), target.arch)
    plan = plan_memory(program)
    build_object(program, plan, target, folder / "model.o")
    specs = tensor_specs(model, program)
    executable = Executable(folder / "model.o", ENTRY, *specs, plan.workspace_bytes, target)
    with open_device(device).load(executable) as loaded:
        return loaded.run(x[None, None]).outputs[0].reshape(-1)


def assert_close(found: np.ndarray, exact: np.ndarray) -> None:
    """Equal where nothing is rounded, else within one unit in the last place."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
        near = np.abs(found.astype(np.float64) - exact) <= unit
    same = (found == rounded) & (np.signbit(found) == np.signbit(rounded))
    right = near | same | (np.isnan(found) & np.isnan(exact))
    assert right.all(), (found[~right], exact[~right])


@pytest.mark.parametrize("device", TARGETS)
@pytest.mark.parametrize(
    ("op", "exact"),
    [
        ("Exp", np.exp),
        ("Log", np.log),
        ("Erf", np.vectorize(math.erf, otypes=[np.float64])),
    ],
)
def test_a_function_is_within_a_unit_in_the_last_place(
    op: str, exact: Callable[[np.ndarray], np.ndarray], device: str, tmp_path: Path
) -> None:
    x = values()
    with np.errstate(all="ignore"):
        assert_close(run(op, device, tmp_path, x), exact(x.astype(np.float64)))


def test_what_is_made_of_exponentials_is_right_to_float32_of_one(tmp_path: Path) -> None:
    x = values()
    exact = {"Tanh": np.tanh, "Sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    for op, meaning in exact.items():
        with np.errstate(all="ignore"):
            expected = meaning(x.astype(np.float64))
        np.testing.assert_allclose(run(op, "emulator", tmp_path, x), expected, atol=3e-7, rtol=0)


@pytest.mark.parametrize("device", TARGETS)
def test_a_power_is_within_a_unit_in_the_last_place(device: str, tmp_path: Path) -> None:
    base, exponent = (side.reshape(-1) for side in np.meshgrid(values()[:40], values()[:60]))
    with np.errstate(all="ignore"):
        exact = np.power(base.astype(np.float64), exponent.astype(np.float64))
    assert_close(run("Pow", device, tmp_path, base, exponent[None]), exact)


def test_nothing_is_defined_that_is_not_called() -> None:
    assert mathematics.source([]) == ""
    assert "log_of" not in mathematics.source(["expf"])
