"""Features of a corpus, computed once and kept on disk."""

import inspect
import math
import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bicompile import audio, features
from bicompile.errors import UserError
from bicompile.model.tensor_file import write_tensors
from bicompile.training import augment as augmentation
from bicompile.training import log_mel, sample
from bicompile.training.corpus import Corpus
from bicompile.training.sample import SPLITS

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
    shapes: dict[str, tuple[int, ...]] = {
        split: (
            copies if split == "train" else 1,
            len(corpus.of(split)),
            features.MELS,
            features.FRAMES,
        )
        for split in SPLITS
    }
    arrays = _read(path, shapes)
    if arrays is None:
        _check_room(path, shapes)
        arrays = {split: _compute(corpus, split, shapes[split][0], seed) for split in SPLITS}
        write_tensors(path, arrays)
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
    """A hash of the clips, the code that makes features of them, its libraries, the arguments."""
    makers = (audio, sample, features, log_mel, augmentation, _compute)
    code = "".join(inspect.getsource(maker) for maker in makers)
    versions = [version(name) for name in ("numpy", "soundfile", "torch")]
    facts = (corpus.fingerprint(), code, versions, copies, seed)
    return sha256(repr(facts).encode()).hexdigest()[:16]


def _read(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The features that are kept in a file, or nothing when it is missing or damaged."""
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    return arrays if found == shapes else None


def _check_room(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a disk that is too small before time is spent on what it cannot hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(4 * math.prod(shape) for shape in shapes.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"the disk is full: features take {needed / 1e9:.1f} GB in {path.parent}, where "
            f"{free / 1e9:.1f} GB are free; free some space, or set XDG_CACHE_HOME to another place"
        )


def _compute(corpus: Corpus, split: str, copies: int, seed: int) -> Tensor:
    samples = corpus.of(split)
    result = torch.empty(copies, len(samples), features.MELS, features.FRAMES)
    model = log_mel.LogMel()
    starts = range(0, len(samples), BATCH)
    console = Console(stderr=True)
    for start in track(
        starts, f"features of {split}", console=console, disable=not console.is_terminal
    ):
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
