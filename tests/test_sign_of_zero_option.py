"""`--sign-of-zero`, from the command line to the object."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Run
from networks import model_of, signs
from onnx import helper

WEIGHTS = signs(np.random.default_rng(0), 9, 3)
X = np.array([[0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 0]], np.float32)


@pytest.fixture
def of_a_sign(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Sign", ["x"], ["b"], "sign"),
        helper.make_node("MatMul", ["b", "weights"], ["y"], "layer"),
    ]
    path = tmp_path / "sign.onnx"
    onnx.save(model_of(nodes, {"weights": WEIGHTS}, x=(1, 9), y=(1, 3)), path)
    return path


@pytest.mark.parametrize(("choice", "at_zero"), [("strict", 0), ("plus", 1), ("minus", -1)])
def test_the_object_gives_what_was_chosen_and_the_report_says_so(
    bicompile: Run, of_a_sign: Path, tmp_path: Path, choice: str, at_zero: int
) -> None:
    from bicompile.artifact import read_artifact

    out = tmp_path / "out"
    options = ["--target", "cortex-a53", "-o", out, "--sign-of-zero", choice]
    assert bicompile("compile", of_a_sign, *options).status == 0
    expected = np.where(X == 0, at_zero, np.sign(X)) @ WEIGHTS
    np.testing.assert_array_equal(read_artifact(out).run(X), expected)
    (layer,) = json.loads((out / "report.json").read_text())["layers"]
    assert layer["binary"] is (choice != "strict")
    said = "--sign-of-zero plus or minus" if choice == "strict" else "sign(0) taken as "
    assert said in layer["reason"]


def test_another_word_is_refused(bicompile: Run, of_a_sign: Path, tmp_path: Path) -> None:
    options = ["--target", "cortex-a53", "-o", tmp_path / "out", "--sign-of-zero", "maybe"]
    ended = bicompile("compile", of_a_sign, *options)
    assert ended.status == 2
    assert "strict" in ended.err
