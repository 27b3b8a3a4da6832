"""Reading a corpus folder: who says what, and for which split. The one interface to data."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bicompile.audio import read_wav
from bicompile.errors import UserError
from bicompile.features import RATE, SAMPLES
from bicompile.model.config import LABELS_12
from bicompile.training.synthesis import LIST_OF_SPLIT, NOISE_FOLDER

SPLITS = ("train", "validation", "test")
SILENCE_SHARE = 1 / 11  # silences per clip, so that they are a twelfth of everything


@dataclass(frozen=True)
class Sample:
    """One second of sound that stands in a file: a spoken word, or a piece of noise."""

    path: Path
    label: str
    split: str
    engine: str
    """Who made it; `silence` for a piece of noise."""
    voice: str
    start: int = 0
    """Where the second begins in the file, in samples; only in files of noise."""
    gain: float = 1.0

    def load(self) -> NDArray[np.float32]:
        """Return the sound, float32 (16000,)."""
        if self.engine != "silence":
            return read_wav(self.path).samples
        noise, _rate = soundfile.read(self.path, SAMPLES, self.start, dtype="float32")
        samples: NDArray[np.float32] = noise * np.float32(self.gain)
        return samples


@dataclass(frozen=True)
class Corpus:
    """A folder of clips, with a label and a split for each."""

    folder: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    noises: tuple[NDArray[np.float32], ...]
    """Noise that training may mix in, each float32 (n,): the first half of every noise file."""
    origin: dict[str, Any]
    """What the corpus says of its making: JSON values such as its seed and engine versions."""

    def of(self, split: str) -> list[Sample]:
        """Return the samples of one split, in the order of the corpus."""
        return [sample for sample in self.samples if sample.split == split]

    def fingerprint(self) -> str:
        """A hash of everything that reading this corpus gives; reads every file once."""
        digest = sha256()
        contents: dict[Path, bytes] = {}
        for sample in self.samples:
            if sample.path not in contents:
                contents[sample.path] = sha256(sample.path.read_bytes()).digest()
            where = sample.path.relative_to(self.folder)
            facts = (where, sample.label, sample.split, sample.start, sample.gain)
            digest.update(repr(facts).encode() + contents[sample.path])
        return digest.hexdigest()[:16]


def read_corpus(folder: Path, labels: tuple[str, ...] = LABELS_12) -> Corpus:
    """Read a folder that `bicompile synthesize` wrote.

    A word that is no label becomes `unknown`; pieces of the background noise become `silence`:
    training takes the first half of each noise file, validation and test the second half, where
    none of them overlap. Raises UserError when the folder is missing, is not such a corpus, or
    lacks a file that it lists.
    """
    manifest = _read_manifest(folder)
    samples = []
    for entry in manifest["speakers"]:
        for name in entry["files"]:
            word = name.split("/")[0]
            label = word if word in labels else "unknown"
            facts = (label, entry["split"], entry["engine"], entry["voice"])
            samples.append(Sample(folder / name, *facts))
    missing = [sample.path for sample in samples if not sample.path.is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(samples)} clips that it lists, the first "
            f"is {missing[0]}; make it again with: bicompile synthesize"
        )
    empty = set(SPLITS) - {sample.split for sample in samples}
    if empty:
        raise UserError(
            f"{folder} has no clips for {', '.join(sorted(empty))}; make a whole corpus"
        )
    paths = sorted((folder / NOISE_FOLDER).glob("*.wav"))
    if not paths:
        raise UserError(
            f"{folder} has no {NOISE_FOLDER}/*.wav; make it again with: bicompile synthesize"
        )
    noises = []
    for path in paths:
        noise, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or noise.ndim != 1 or len(noise) < 8 * RATE:
            raise UserError(f"{path} must be at least 8 s of one channel at {RATE} Hz")
        noises.append(noise[: len(noise) // 2])
    samples += _silences(samples, paths, [2 * len(noise) for noise in noises])
    origin = {name: manifest.get(name) for name in ("format", "version", "seed", "engines")}
    return Corpus(folder, labels, tuple(samples), tuple(noises), origin)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; make a corpus with: bicompile synthesize {folder}"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        entries = manifest["speakers"]
        for entry in entries:
            if entry["split"] not in SPLITS or not entry["engine"] or not entry["files"]:
                raise ValueError("an incomplete entry")
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no manifest.json, so it is not a corpus that can be read; "
            "make one with: bicompile synthesize"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); make the corpus again") from None
    for split, name in LIST_OF_SPLIT.items():
        listed = set((folder / name).read_text().split()) if (folder / name).exists() else set()
        told = {file for entry in entries if entry["split"] == split for file in entry["files"]}
        if listed != told:
            raise UserError(f"{folder / name} does not fit manifest.json; make the corpus again")
    return manifest


def _silences(spoken: list[Sample], paths: list[Path], lengths: list[int]) -> list[Sample]:
    """Pieces of noise for every split, at random places and levels that are always the same."""
    found = []
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        count = sum(sample.split == split for sample in spoken)
        for _ in range(round(count * SILENCE_SHARE)):
            choice = int(rng.integers(len(paths)))
            half = lengths[choice] // 2
            # train: the first half; validation: the third quarter; test: the last.
            begin, end = ((0, half), (half, half * 3 // 2), (half * 3 // 2, half * 2))[number]
            start = int(rng.integers(begin, end - SAMPLES))
            gain = 0.0 if rng.random() < 0.3 else float(rng.uniform(0.02, 1))
            found.append(
                Sample(paths[choice], "silence", split, "silence", paths[choice].stem, start, gain)
            )
    return found
