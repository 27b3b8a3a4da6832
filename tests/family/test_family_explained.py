"""`explain` tells of every layer of every network of the family, under its own name."""

from pathlib import Path

import onnx
import pytest

from bicompile.explain import explain_model

from . import DYNAMO, HAND, SCRIPT_17, Exporter, Member, cases, export, layers

QUICK = ("bifsmnv2", "shape_conv1d", "sign_torch_sign", "weights_baked_with_zeros")


@pytest.mark.parametrize(
    ("member", "exporter"),
    [
        pytest.param(
            member,
            exporter,
            id=f"{member.name}-{exporter.name}",
            marks=() if member.name in QUICK and exporter is not DYNAMO else pytest.mark.slow,
        )
        for member, exporter in cases()
        if exporter in (DYNAMO, HAND, SCRIPT_17)
    ],
)
def test_every_layer_is_told_once_with_a_reason(
    member: Member, exporter: Exporter, tmp_path: Path
) -> None:
    model = export(member, exporter)
    onnx.save(model, tmp_path / "model.onnx")
    found = explain_model(str(tmp_path / "model.onnx")).layers
    assert [layer.name for layer in found] == [node.name for node in layers(model)]
    for layer in found:
        assert layer.reason not in ("", "no pass noted what became of it")
        assert (layer.kernel is not None) == (layer.planes > 0) == layer.binary
        assert layer.products > 0
        assert layer.multiply_accumulates > 0
