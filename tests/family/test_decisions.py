"""What the passes decide about every layer of the family, and that the lowered graph is right."""

import re
from pathlib import Path

import onnx
import pytest

from bicompile import check
from bicompile.load import load_model
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.report import Layer, read_layers
from bicompile.rewriting import run_passes

from . import BINARY, DYNAMO, HAND, SCRIPT_17, Exporter, Member, cases, export, fragments_of
from .member import (
    INPUT_HAS_LEVELS,
    INPUT_IS_REAL,
    INPUT_SCALE_VARIES,
    SIGN_MEETS_ZERO,
    WEIGHT_IS_ZERO,
    WEIGHT_SCALE_VARIES,
    WEIGHTS_ARE_REAL,
)

RELATIVE = 1e-5
NOT_A_SUM = r"its input .* is not a sum of ±1 tensors with scales"
NO_BIT = r"the Sign of zero has no bit, --sign-of-zero plus or minus gives it one"
VARIES = r"the weight scale of .* varies along the reduction: \d+ distinct values per output; .*"
SAID = {
    BINARY: r"Binary(Linear|Conv1d|Conv2d), \d+ products a sum.*",
    INPUT_IS_REAL: NOT_A_SUM,
    INPUT_HAS_LEVELS: NOT_A_SUM,
    INPUT_SCALE_VARIES: r"the scale .* varies along what it sums over; .*",
    # Real weights behind a binary input are one scale for every weight.
    WEIGHTS_ARE_REAL: rf"its weights are real: \d+ distinct magnitudes per output, .*|{VARIES}",
    WEIGHT_SCALE_VARIES: VARIES,
    WEIGHT_IS_ZERO: r"its weights are ±\S+ and 0 in \d+ of its outputs; a zero has no bit",
    SIGN_MEETS_ZERO: rf"{NOT_A_SUM}: .*; {NO_BIT}",
}
"""What the report says, by what a member expects."""

QUICK = (
    ("sign_where_at_least", DYNAMO),
    ("sign_torch_sign", SCRIPT_17),
    ("sign_double_sign", SCRIPT_17),
    ("sign_residue_of_clip", SCRIPT_17),
    ("weights_baked_dead_output", SCRIPT_17),
    ("weights_baked_with_zeros", SCRIPT_17),
    ("scale_conv1d_per_frame", SCRIPT_17),
    ("scale_two_levels_conv2d", SCRIPT_17),
    ("shape_conv1d", SCRIPT_17),
    ("xnor_net", SCRIPT_17),
    ("bi_real", SCRIPT_17),
    ("ir_net", SCRIPT_17),
    ("react_net", SCRIPT_17),
    ("real_to_binary", SCRIPT_17),
    ("bnn", SCRIPT_17),
    ("qonnx", HAND),
)


def some(quick: tuple[tuple[str, Exporter], ...]) -> list[object]:
    """Every member with every exporter; those that are not quick run in the slow suite."""
    return [
        pytest.param(
            member,
            exporter,
            id=f"{member.name}-{exporter.name}",
            marks=() if (member.name, exporter) in quick else pytest.mark.slow,
        )
        for member, exporter in cases()
    ]


def loaded(member: Member, exporter: Exporter, folder: Path) -> onnx.ModelProto:
    onnx.save(export(member, exporter), folder / "model.onnx")
    return load_model(folder / "model.onnx")


def lowered(
    traced: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, sign_of_zero: SignOfZero
) -> onnx.ModelProto:
    """What all passes make of a model, proved after each and once more as a whole."""
    after = run_passes(traced, check=True, sign_of_zero=sign_of_zero)
    inputs = check.check_inputs(traced)
    monkeypatch.setattr(check, "TOLERANCE", RELATIVE)
    check.check_pass("(all)", check.observe(traced, inputs), check.observe(after, inputs))
    return after


def assert_decided(layer: Layer, member: Member) -> None:
    (fragment,) = fragments_of(layer.name, member.expected)
    expected = member.expected[fragment]
    assert (layer.binary, layer.name) == (expected == BINARY, layer.name), layer.reason
    assert re.fullmatch(SAID[expected], layer.reason), layer.name


def test_the_quick_ones_are_of_the_family() -> None:
    known = [(member.name, exporter) for member, exporter in cases()]
    assert all(each in known for each in QUICK)


@pytest.mark.parametrize(("member", "exporter"), some(QUICK))
def test_every_layer_is_decided_as_arithmetic_allows_and_the_answers_are_the_same(
    member: Member, exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = loaded(member, exporter, tmp_path)
    sign_of_zero: SignOfZero = "plus" if member.zeros == "unlikely" else "strict"
    layers = read_layers(lowered(traced, monkeypatch, sign_of_zero))
    for layer in layers:
        assert_decided(layer, member)
    names = [layer.name for layer in layers]
    for fragment in member.expected:
        assert any(fragments_of(name, [fragment]) for name in names), fragment


@pytest.mark.parametrize(
    ("member", "exporter"),
    [
        pytest.param(
            member,
            exporter,
            id=f"{member.name}-{exporter.name}",
            marks=() if member.name == "sign_torch_sign" else pytest.mark.slow,
        )
        for member, exporter in cases()
        if member.zeros == "unlikely" and exporter is SCRIPT_17
    ],
)
def test_a_sign_that_may_meet_zero_stays_float_and_the_option_is_named(
    member: Member, exporter: Exporter, tmp_path: Path
) -> None:
    layers = read_layers(run_passes(loaded(member, exporter, tmp_path), check=False))
    reasons = [layer.reason for layer in layers if not layer.binary]
    assert any(re.fullmatch(SAID[SIGN_MEETS_ZERO], reason) for reason in reasons)
