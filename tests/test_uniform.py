"""A network with one factor a layer and one threshold a binarizer, from ONNX to its answers."""

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from graphs import SIGN, dual_scale, floats
from onnx import helper

import bicompile
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.program import Program
from bicompile.verify import verify
from bicompile.workloads import KIND

CHANNELS, HIDDEN, FRAMES, TAPS = 32, 64, 8, 5
THRESHOLDS = {"theta": 0.11, "theta1": 0.03, "theta2": 0.03}
FACTOR = 0.37


class _Network:
    """Nodes and constants; `per_channel` is how equal numbers arrive, else as scalars."""

    def __init__(self, *, per_channel: bool) -> None:
        self.per_channel = per_channel
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {
            **SIGN,
            "alpha": np.float32(0.8),
            "slope": np.float32([[0.25]]),
            "pads": np.array([0, 0, TAPS // 2, 0, 0, TAPS // 2]),
        }

    def number(self, name: str, value: float, channels: int) -> None:
        shape = (1, channels, 1) if self.per_channel else ()
        self.constants[name] = np.full(shape, value, np.float32)

    def layer(self, name: str, x: str, inputs: int, outputs: int, *, depthwise: bool) -> str:
        """Binarize x (1, C, T), convolve, scale, shift, bend."""
        bits, axes = f"{name}_bits", f"{name}_axes"
        self.constants[axes] = np.array([2 if depthwise else 1])
        for node in dual_scale(x, bits, axes):
            names = [f"{name}_{i}" if i in THRESHOLDS else i for i in node.input]
            node.input[:] = names
            self.nodes.append(node)
        for threshold, value in THRESHOLDS.items():
            self.number(f"{name}_{threshold}", value, inputs)
        shape = (outputs, 1, TAPS) if depthwise else (outputs, inputs, 1)
        seed = len(self.nodes)
        signs = np.where(floats(seed, *shape) < 0, -1, 1)
        self.constants[f"{name}_w"] = (0.7 * signs).astype(np.float32)
        group = inputs if depthwise else 1
        conv = helper.make_node("Conv", [bits, f"{name}_w"], [f"{name}_sum"], name, group=group)
        self.nodes.append(conv)
        self._scale(name, outputs, seed)
        bent = helper.make_node("PRelu", [f"{name}_shifted", "slope"], [f"{name}_y"])
        self.nodes.append(bent)
        return f"{name}_y"

    def _scale(self, name: str, outputs: int, seed: int) -> None:
        """A batch norm of equal factors, or a scalar and a shift for every output."""
        shift = floats(seed + 1, outputs)
        if not self.per_channel:
            self.constants |= {f"{name}_k": np.float32(FACTOR), f"{name}_b": shift[:, None]}
            self.nodes += [
                helper.make_node("Mul", [f"{name}_sum", f"{name}_k"], [f"{name}_scaled"]),
                helper.make_node("Add", [f"{name}_scaled", f"{name}_b"], [f"{name}_shifted"]),
            ]
            return
        given = {"gamma": FACTOR, "beta": shift, "mean": floats(seed + 2, outputs), "var": 0.9}
        for key, value in given.items():
            self.constants[f"{name}_{key}"] = np.resize(np.float32(value), outputs)
        inputs = [f"{name}_{key}" for key in ("sum", *given)]
        self.nodes.append(helper.make_node("BatchNormalization", inputs, [f"{name}_shifted"]))


def network(*, per_channel: bool) -> onnx.ModelProto:
    """Depthwise, expand, project, each binary, with two residuals: (1, T, C) → (1, C, T)."""
    made = _Network(per_channel=per_channel)
    made.nodes += [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Pad", ["turned", "pads"], ["padded"]),
    ]
    memory = made.layer("memory", "padded", CHANNELS, CHANNELS, depthwise=True)
    made.nodes.append(helper.make_node("Add", [memory, "turned"], ["remembered"]))
    hidden = made.layer("expand", "remembered", CHANNELS, HIDDEN, depthwise=False)
    projected = made.layer("project", hidden, HIDDEN, CHANNELS, depthwise=False)
    made.nodes.append(helper.make_node("Add", [projected, "remembered"], ["y"]))
    x, y = (1, FRAMES, CHANNELS), (1, CHANNELS, FRAMES)
    return networks.model_of(made.nodes, made.constants, x=x, y=y)


def sizes_of(program: Program) -> dict[str, set[int]]:
    """How many factors and thresholds kernels take, by kind and name."""
    found: dict[str, set[int]] = {}
    for kernel in program.kernels.values():
        for parameter in kernel.params:
            if parameter.name in ("multiplier", "theta", "theta2"):
                key = f"{kernel.attrs[KIND]} {parameter.name}"
                found.setdefault(key, set()).add(int(parameter.ty.shape[0]))
    return found


@pytest.mark.parametrize("per_channel", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("target", "device"), [("cortex-a53", "emulator"), ("host", "host")])
def test_equal_factors_and_thresholds_are_single_numbers_and_right(
    target: str, device: str, per_channel: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    model = network(per_channel=per_channel)
    onnx.save(model, path)
    artifact = bicompile.compile(path, target=target, out=tmp_path / "out")
    assert sizes_of(lower(onnx.load(artifact.lowered))) == {
        "dual_depthwise multiplier": {1},
        "dual_scale theta": {1},
        "dual_scale theta2": {1},
        "popcount_epilogue multiplier": {1},
    }
    x = floats(3, 5, 1, FRAMES, CHANNELS)
    reference = session(model)
    for each in x:
        (expected,) = reference.run(None, {"x": each})
        np.testing.assert_allclose(artifact.run(each, device), expected, rtol=0, atol=1e-4)
    assert verify(artifact, open_device(device), x, load_model(path)).passed
