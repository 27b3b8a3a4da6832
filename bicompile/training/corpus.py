"""Reading a corpus folder: who says what, and for which split. The one interface to data."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bicompile.errors import UserError
from bicompile.features import RATE, SAMPLES
from bicompile.model.config import LABELS_12
from bicompile.training.sample import NOISE_FOLDER, SPLITS, Listing, Sample
from bicompile.training.scan import scan
from bicompile.training.speech_commands import list_speech_commands
from bicompile.training.synthesized import MANIFEST, list_synthesized

NOISE_SECONDS = 8  # the least of a noise file, so that a quarter of it holds a second


@dataclass(frozen=True)
class Corpus:
    """A folder of clips, with a label and a split for each."""

    folder: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    noises: tuple[NDArray[np.float32], ...]
    """Noise that training may mix in, each float32 (n,)."""
    origin: dict[str, Any]
    """What the corpus says of its making: JSON values such as its seed and engine versions."""
    unreadable: dict[Path, str]
    """Sound files that were left out, and what is wrong with them."""
    digests: dict[Path, bytes]
    """SHA-256 of every sound file that is used, noise included."""

    def of(self, split: str) -> list[Sample]:
        """Return the samples of one split, in the order of the corpus."""
        return [sample for sample in self.samples if sample.split == split]

    def fingerprint(self) -> str:
        """A hash of everything that features are made of: samples, and the bytes of all files."""
        digest = sha256()
        for sample in self.samples:
            where = sample.path.relative_to(self.folder)
            facts = (str(where), sample.label, sample.split, sample.start, sample.gain)
            digest.update(repr(facts).encode() + self.digests[sample.path])
        for path in sorted(self.digests):
            if path.parent.name == NOISE_FOLDER:
                digest.update(path.name.encode() + self.digests[path])
        return digest.hexdigest()[:16]


def read_corpus(
    folder: Path, labels: tuple[str, ...] = LABELS_12, *, skip_unreadable: bool = False
) -> Corpus:
    """Read a folder that `bicompile synthesize` wrote, or an unpacked Speech Commands archive.

    A word that is no label becomes `unknown` where that is a label, and is left out otherwise;
    `silence`, where it is a label, is made of background noise or of zeros. Every file that is used
    is read once. Raises UserError when the folder is missing or is neither, when a label has no
    training clip or a split no clip, and for sound files that are not one channel of 16-bit
    samples at 16 kHz; ones that cannot be read at all are left out with `skip_unreadable`.
    """
    listing = _list(folder)
    spoken = _label(listing.clips, labels)
    noise_paths = sorted((folder / NOISE_FOLDER).glob("*.wav"))
    paths = [sample.path for sample in spoken] + noise_paths
    digests, unreadable = scan(folder, paths, skip_unreadable=skip_unreadable)
    spoken = [sample for sample in spoken if sample.path in digests]
    _check_splits(folder, spoken, labels)
    noises = {path: _read_noise(path) for path in noise_paths if path in digests}
    if not noises:
        raise UserError(
            f"{folder} has no {NOISE_FOLDER}/*.wav; give a whole corpus, noise included"
        )
    silences = _silences(listing, spoken, noises) if "silence" in labels else []
    return Corpus(
        folder,
        labels,
        (*spoken, *silences),
        tuple(noise[: int(listing.noise_share * len(noise))] for noise in noises.values()),
        listing.origin,
        unreadable,
        digests,
    )


def _list(folder: Path) -> Listing:
    what = "an unpacked Speech Commands archive"
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; give {what}, or make a corpus with: "
            f"bicompile synthesize {folder}"
        )
    if not any(folder.iterdir()):
        raise UserError(
            f"{folder} is empty; give {what}, or make a corpus with: bicompile synthesize {folder}"
        )
    if (folder / MANIFEST).exists():
        return list_synthesized(folder)
    return list_speech_commands(folder)


def _label(clips: list[Sample], labels: tuple[str, ...]) -> list[Sample]:
    known = set(labels)
    rest = "unknown" if "unknown" in known else None
    named = ((clip, clip.label if clip.label in known else rest) for clip in clips)
    return [
        clip if label == clip.label else replace(clip, label=label)
        for clip, label in named
        if label is not None
    ]


def _check_splits(folder: Path, spoken: list[Sample], labels: tuple[str, ...]) -> None:
    heard = {sample.label for sample in spoken if sample.split == "train"}
    unheard = [label for label in labels if label not in heard and label != "silence"]
    if unheard:
        raise UserError(
            f"{folder} has no training clips of {', '.join(unheard)}, which are among the "
            f"{len(labels)} labels; choose labels that it has (Speech Commands V1 and synthesized "
            "corpora have 30 words, V2 has 35)"
        )
    empty = set(SPLITS) - {sample.split for sample in spoken}
    if empty:
        raise UserError(
            f"{folder} has no clips for {', '.join(sorted(empty))}; give a whole corpus"
        )


def _read_noise(path: Path) -> NDArray[np.float32]:
    noise: NDArray[np.float32] = soundfile.read(path, dtype="float32")[0]
    if len(noise) < NOISE_SECONDS * RATE:
        raise UserError(
            f"{path} has {len(noise) / RATE:.1f} s of noise; give a file of {NOISE_SECONDS} s or "
            "more, or remove it"
        )
    return noise


def _silences(
    listing: Listing, spoken: list[Sample], noises: dict[Path, NDArray[np.float32]]
) -> list[Sample]:
    """Pieces of noise for every split, at random places and levels that are always the same."""
    found = []
    paths = list(noises)
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        count = sum(sample.split == split for sample in spoken)
        for _ in range(int(count * listing.silence_share)):
            path = paths[int(rng.integers(len(paths)))]
            half = len(noises[path]) // 2
            # train: the first half; validation: the third quarter; test: the last.
            begin, end = ((0, half), (half, half * 3 // 2), (half * 3 // 2, half * 2))[number]
            start = int(rng.integers(begin, end - SAMPLES))
            gain = 0.0 if rng.random() < listing.quiet_share else float(rng.uniform(0.02, 1))
            found.append(Sample(path, "silence", split, "silence", path.stem, start, gain))
    return found
