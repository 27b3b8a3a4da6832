"""A corpus of a few tones, made without a speech engine, and a recipe for a tiny network."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings

from bicompile.model.config import KEYWORDS

torch.set_num_threads(1)  # two threads wait for each other when anything else runs
settings.register_profile("torch", deadline=None)
settings.load_profile("torch")

WORDS = (*KEYWORDS, "bed")
COUNTS = {"train": 4, "validation": 2, "test": 2}
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

RECIPE = """
seed = 3
batch = 16
labels = 12
[network]
front = 2
hidden = 8
memory = 8
blocks = 2
widths = [0, 1]
one_bit = ["linear", "blocks.*.expand"]
[augmentation]
time_shift = 2
time_mask = 4
mel_mask = 4
[teacher]
epochs = 2
copies = 2
optimizer = "adamw"
rate = 1e-2
warm_up = 0.1
weight_decay = 1e-3
twins = [1]
[student]
epochs = 2
copies = 1
optimizer = "sgd"
rate = 1e-2
warm_up = 0.0
weight_decay = 0.0
thresholds = "means"
slow_rate = 0.1
width_weights = [1.0, 0.5]
distillation_kind = "frequency"
distillation = 0.01
[narrowing]
epochs = 2
copies = 1
optimizer = "adamw"
rate = 1e-2
warm_up = 0.0
weight_decay = 0.0
[settling]
epochs = 2
copies = 1
optimizer = "adamw"
rate = 1e-3
warm_up = 0.0
weight_decay = 0.0
"""


def write_corpus(folder: Path) -> Path:
    """Words are tones of different pitch, spoken by one voice for each split."""
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    entries = []
    for split, count in COUNTS.items():
        files = []
        for number, word in enumerate(WORDS):
            (folder / word).mkdir(parents=True, exist_ok=True)
            for take in range(count):
                tone = 0.3 * np.sin(2 * np.pi * 300 * (number + 1) * time * rng.uniform(0.9, 1.1))
                name = f"{word}/{split}_nohash_{take}.wav"
                soundfile.write(folder / name, tone + 0.01 * rng.standard_normal(16000), 16000)
                files.append(name)
        entries.append({"engine": "tones", "voice": split, "split": split, "files": files})
        if split in LISTS:
            (folder / LISTS[split]).write_text("".join(f"{name}\n" for name in files))
    (folder / "_background_noise_").mkdir()
    noise = 0.1 * rng.standard_normal(10 * 16000)
    soundfile.write(folder / "_background_noise_" / "white.wav", noise, 16000)
    manifest = {"seed": 7, "engines": {"tones": "1"}, "speakers": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the features of tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that was never stopped."""
    from bicompile.training.loop import train

    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        corpus = write_corpus(folder / "corpus")
        train(corpus, folder / "run", recipe=str(folder / "tiny.toml"))
    return folder / "run"
