"""The last proof by running: the object against the graph that it was built from."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Run, refused
from networks import model_of
from onnx import helper, numpy_helper

from bicompile.artifact import read_artifact
from bicompile.check_object import check_object
from bicompile.errors import UserError


def test_an_object_that_gives_what_its_graph_does_passes(compiled_folder: Path) -> None:
    executable = read_artifact(compiled_folder).executable
    check_object(executable, onnx.load(compiled_folder / "lowered.onnx"))


def test_an_object_of_another_graph_is_refused(compiled_folder: Path) -> None:
    lowered = onnx.load(compiled_folder / "lowered.onnx")
    scale = next(t for t in lowered.graph.initializer if t.name == "head/weights")
    scale.CopyFrom(numpy_helper.from_array(~numpy_helper.to_array(scale), scale.name))
    with pytest.raises(UserError, match=r"for cortex-a53 gives something else .* output y differs"):
        check_object(read_artifact(compiled_folder).executable, lowered)


@pytest.mark.parametrize("target", ["cortex-a53", "host"])
def test_an_op_that_is_lowered_to_something_else_stops_the_compile(
    bicompile: Run, tmp_path: Path, target: str
) -> None:
    """TVM's importer takes Resize with antialias as Resize without."""
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1)
    scales = {"scales": np.float32([1, 1, 0.5, 0.5])}
    onnx.save(model_of([node], scales, x=(1, 1, 8, 8), y=(1, 1, 4, 4)), tmp_path / "model.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", target, "-o", out)
    refused(ended, f"the object for {target} gives something else than its model: output y differs")
    assert not out.exists()
