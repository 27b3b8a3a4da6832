"""Damaged models are refused in a sentence, or compiled to what onnxruntime makes of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from mutations import bases, mutated

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
        assert said.startswith(str(path)) or "cannot run the model" in said, said
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
    check.check_pass("(all)", file, check.observe(lowered, inputs))
    return SAME


def damaged(seed: int) -> bytes:
    """The model of a seed: every hundredth is the smallest of the zoo, the others are smaller."""
    generator = np.random.default_rng(seed)
    if seed % 100 == 99:
        with onnx_file("zoo:bifsmnv2-kws12", 2) as (path, _):
            return mutated(onnx.load(path), generator)
    models = bases()
    return mutated(models[seed % len(models)], generator)


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
