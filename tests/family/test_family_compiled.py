"""Members of the family compiled for arm64 and run: bits and accumulators are numpy's."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from bicompile.devices import open_device
from bicompile.load import load_model
from bicompile.pipeline import compile_model
from bicompile.targets import find_target
from bicompile.verify import verify

from . import HAND, SCRIPT_17, Exporter, Member, cases, export, inputs_like

QUICK = ("react_net", "shape_conv2d_groups", "qonnx")


@pytest.mark.parametrize(
    ("member", "exporter"),
    [
        pytest.param(
            member,
            exporter,
            id=f"{member.name}-{exporter.name}",
            marks=() if member.name in QUICK else pytest.mark.slow,
        )
        for member, exporter in cases()
        if exporter in (HAND, SCRIPT_17)
    ],
)
def test_the_object_of_a_member_counts_as_numpy_does(
    member: Member, exporter: Exporter, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(export(member, exporter), path)
    sign_of_zero = "plus" if member.zeros == "unlikely" else "strict"
    compiled = compile_model(
        str(path), find_target("cortex-a53"), tmp_path / "out", sign_of_zero=sign_of_zero
    )
    inputs = np.stack(inputs_like(member.make()[1]))
    found = verify(compiled.artifact, open_device("emulator"), inputs, load_model(path))
    assert found.wrong_accumulators == found.wrong_bits == 0
    assert found.same_outputs
    assert (found.accumulators > 0) == (compiled.explanations[0].binary_layers > 0)
