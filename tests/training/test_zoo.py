"""What is shipped in the zoo: the clips, and the network trained for them."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import soundfile

from bicompile.model.checkpoint import load_checkpoint
from bicompile.model.config import LABELS_12
from bicompile.training.recipe import Recipe, load_recipe

ZOO = Path(str(resources.files("bicompile") / "zoo"))


@pytest.mark.parametrize("label", LABELS_12)
def test_there_are_two_clips_of_a_label_each_one_second(label: str) -> None:
    clips = sorted((ZOO / "clips" / label).glob("*.wav"))
    assert len(clips) == 2
    for clip in clips:
        info = soundfile.info(clip)
        assert (info.samplerate, info.channels, info.frames) == (16000, 1, 16000)
        assert info.subtype == "PCM_16"


def test_the_manifest_names_every_clip() -> None:
    entries = json.loads((ZOO / "clips" / "manifest.json").read_text())
    found = {str(path.relative_to(ZOO / "clips")) for path in (ZOO / "clips").rglob("*.wav")}
    assert {entry["file"] for entry in entries} == found


def test_every_width_hears_four_of_five_test_clips() -> None:
    _, record = load_checkpoint(ZOO / "bifsmnv2-kws12.safetensors")
    assert min(found["all"] for found in record["test"].values()) > 0.8


def test_the_checkpoint_was_trained_by_the_default_recipe() -> None:
    network, record = load_checkpoint(ZOO / "bifsmnv2-kws12.safetensors")
    recipe = load_recipe("default")
    assert network.config == replace(recipe.network, settled=True)
    assert record["phase"] == "settled"
    assert Recipe.model_validate_json(json.dumps(record["recipe"])) == recipe


def test_the_float_twin_is_a_teacher_of_the_same_recipe_and_corpus() -> None:
    network, record = load_checkpoint(ZOO / "bifsmnv2-kws12-float.safetensors")
    _, student = load_checkpoint(ZOO / "bifsmnv2-kws12.safetensors")
    assert not network.config.binary
    assert record["phase"] == "teacher"
    # What of the recipe a student alone reads was another when the teacher was trained.
    for name in ("seed", "batch", "labels", "augmentation", "teacher"):
        assert record["recipe"][name] == student["recipe"][name]
    for name in ("data", "corpus"):
        assert record[name] == student[name]


def test_width_0_is_within_three_points_of_its_float_twin() -> None:
    _, student = load_checkpoint(ZOO / "bifsmnv2-kws12.safetensors")
    _, twin = load_checkpoint(ZOO / "bifsmnv2-kws12-float.safetensors")
    assert twin["test"]["0"]["all"] - student["test"]["0"]["all"] < 0.03
