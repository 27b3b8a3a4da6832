"""Damaged or changed models: a sentence refuses them, or they give what they do in onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from changes import changed
from mutated_models import bases
from mutations import mutated

from bicompile import check
from bicompile.errors import UserError
from bicompile.explain import explain
from bicompile.load import load_model
from bicompile.rewriting import run_passes
from bicompile.zoo import onnx_file

SEEDS = 5000
REFUSED, SAME, NOT_COMPARED = "refused", "the same", "onnxruntime does not run it"


def outcome(content: bytes, path: Path) -> str:
    """What becomes of a model; raises whatever must not happen."""
    path.write_bytes(content)
    try:
        traced = load_model(path)
        lowered = run_passes(traced, check=True)
    except UserError as error:
        said = str(error)
        accepted = ("cannot run the model", "computes an infinite number")
        assert said.startswith(str(path)) or any(words in said for words in accepted), said
        return REFUSED
    explain("model", traced, lowered)
    return compared(path, traced, lowered)


def compared(path: Path, traced: onnx.ModelProto, lowered: onnx.ModelProto) -> str:
    """Against the file as it is: run_passes only knows what load_model made of it."""
    inputs = check.check_inputs(traced)
    try:
        loaded = check.session(onnx.load(path))
        outputs = [loaded.run(None, {traced.graph.input[0].name: x})[0] for x in inputs]
    except Exception:  # whatever onnxruntime throws: it has no answer
        return NOT_COMPARED
    observed = check.observe(traced, inputs)
    file = check.Observed(traced, inputs, outputs, observed.decisions)
    check.check_pass("load_model", file, observed)
    clear = [x for index, x in enumerate(inputs) if not observed.is_near_threshold(index)]
    # Where signs turn, the check of every pass has compared value by value.
    check.check_pass("(all)", check.observe(traced, clear), check.observe(lowered, clear))
    return SAME


def damaged(seed: int) -> bytes:
    """The model of a seed, every second one changed but valid, the others damaged in any way.

    Every hundredth is one of the zoo, the others are smaller.
    """
    generator = np.random.default_rng(seed)
    change = changed if seed % 2 == 0 else mutated
    if seed % 100 in (98, 99):
        with onnx_file("zoo:bifsmnv2-kws12", 2) as (path, _):
            return change(onnx.load(path), generator)
    models = bases()
    return change(models[seed % len(models)], generator)


@pytest.mark.parametrize("base", range(len(bases())))
def test_the_models_that_are_damaged_compile(base: int, tmp_path: Path) -> None:
    assert outcome(bases()[base].SerializeToString(), tmp_path / "model.onnx") == SAME


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_model_is_refused_in_a_sentence_or_gives_the_same(
    seed: int, tmp_path: Path
) -> None:
    outcome(damaged(seed), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, SEEDS, 20))
def test_damaged_models_are_refused_in_a_sentence_or_give_the_same(
    first: int, tmp_path: Path
) -> None:
    for seed in range(first, min(first + 20, SEEDS)):
        outcome(damaged(seed), tmp_path / f"{seed}.onnx")
