"""Features of a corpus, computed once and kept on disk."""

import inspect
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bicompile import audio, features
from bicompile.files import atomic_file
from bicompile.training import augment as augmentation
from bicompile.training import log_mel
from bicompile.training.corpus import SPLITS, Corpus

BATCH = 16  # clips at once: more of them fall out of the processor's cache


@dataclass(frozen=True)
class Split:
    """Features of one split."""

    features: Tensor
    """(copies, N, 32, 32) float32 dB; copy 0 is the clip itself, the others are augmented."""
    labels: Tensor
    """(N,) int64 indices into the corpus's labels."""
    engines: tuple[str, ...]
    """Who made each clip."""


def cache_folder() -> Path:
    """Where features are kept: `bicompile` in `$XDG_CACHE_HOME`, by default `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bicompile"


def load_features(corpus: Corpus, *, copies: int, seed: int) -> dict[str, Split]:
    """Return the features of every split, from the cache when nothing that shaped them changed.

    Training has `copies` of each clip, validation and test one. Raises UserError when the cache
    cannot be written or a clip cannot be read.
    """
    path = cache_folder() / f"features-{_key(corpus, copies, seed)}.safetensors"
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError):
        arrays = {
            split: _compute(corpus, split, copies if split == "train" else 1, seed)
            for split in SPLITS
        }
        with atomic_file(path) as temporary:
            save_file(arrays, temporary)
    index = {label: number for number, label in enumerate(corpus.labels)}
    return {
        split: Split(
            arrays[split],
            torch.tensor([index[sample.label] for sample in corpus.of(split)]),
            tuple(sample.engine for sample in corpus.of(split)),
        )
        for split in SPLITS
    }


def _key(corpus: Corpus, copies: int, seed: int) -> str:
    """A hash of the clips, the code that makes features of them, and the arguments."""
    modules = (audio, features, log_mel, augmentation)
    code = "".join(inspect.getsource(module) for module in modules)
    facts = (corpus.fingerprint(), code, copies, seed)
    return sha256(repr(facts).encode()).hexdigest()[:16]


def _compute(corpus: Corpus, split: str, copies: int, seed: int) -> Tensor:
    samples = corpus.of(split)
    result = torch.empty(copies, len(samples), features.MELS, features.FRAMES)
    model = log_mel.LogMel()
    starts = range(0, len(samples), BATCH)
    for start in track(starts, description=f"features of {split}"):
        clips = [sample.load() for sample in samples[start : start + BATCH]]
        for copy in range(copies):
            batch = clips
            if copy > 0:
                rngs = [np.random.default_rng((seed, copy, start + i)) for i in range(len(clips))]
                batch = [
                    augmentation.augment(clip, corpus.noises, rng)
                    for clip, rng in zip(clips, rngs, strict=True)
                ]
            stacked = torch.from_numpy(np.stack(batch))
            result[copy, start : start + len(clips)] = model(stacked)[:, 0]
    return result
