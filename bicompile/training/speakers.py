"""Who speaks in the synthesized corpus, in which split, and how each word is said."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from bicompile.model.config import DIGITS, KEYWORDS, OTHERS
from bicompile.training.engines import EspeakNg, Take

OTHER_WORDS = tuple(sorted((*DIGITS, *OTHERS)))
ACCENTS = (
    *("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd"),
    *("en-029", "en-us-nyc"),
)
# Effects rather than voices: no pitch to speak of, or hardly to be understood.
NOT_VOICES = (
    *("whisper", "whisperf", "UniRobot", "Demonic", "fast", "Storm", "Tweaky", "robosoft"),
    "anikaRobot",
)
# A person stays on one side: both `kal` are one, and so are both `slt`. The engine piper is heard
# in the test alone.
PERSONS = {
    ("flite", "kal16"): "train",
    ("flite", "rms"): "train",
    ("flite", "awb"): "train",
    ("festival", "kal_diphone"): "train",
    ("hibari", "heart"): "train",
    ("festival", "ked_diphone"): "validation",
    ("flite", "slt"): "test",
    ("festival", "cmu_us_slt_arctic_hts"): "test",
    ("piper", "joe"): "test",
}
"""The split of every voice that was made from recordings of a person."""
HELD_OUT = 0.12  # share of the variants for validation, and the same again for test


@dataclass(frozen=True)
class Speaker:
    """One voice of one engine, and how much it says."""

    engine: str
    voice: str
    split: str
    """`train`, `validation` or `test`."""
    takes: int
    """Times that each keyword is said."""
    others: int
    """How many other words are said."""

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits that stand for the speaker in file names."""
        return digest(self.engine, self.voice)[:8]

    @property
    def clips(self) -> int:
        """How many clips that makes."""
        return self.takes * len(KEYWORDS) + self.others


def speakers() -> list[Speaker]:
    """Everyone who speaks: every espeak-ng variant in every accent, and the voices of persons.

    Whole variants are held out, in every accent. Variants whose names differ by a trailing number
    are near copies (`steph`, `steph2`) and stay together.
    """
    found = []
    for variant, split in split_variants(EspeakNg().variants()).items():
        takes, others = (2, 8) if split == "train" else (1, 2)
        for accent in ACCENTS:
            found.append(Speaker("espeak-ng", f"{accent}+{variant}", split, takes, others))
    for (engine, voice), split in PERSONS.items():
        takes, others = (48, 120) if split == "train" else (14, 35)
        found.append(Speaker(engine, voice, split, takes, others))
    return found


def split_variants(variants: list[str]) -> dict[str, str]:
    """Give every usable variant its split; the order of families is that of their hashes."""
    families: dict[str, list[str]] = {}
    for variant in sorted(variants):
        family = variant.rstrip("0123456789")
        if family not in NOT_VOICES:
            # `m1` to `m8` and `f1` to `f5` are different voices under one letter.
            families.setdefault(family if len(family) > 1 else variant, []).append(variant)
    share = round(HELD_OUT * sum(map(len, families.values())))
    splits: dict[str, str] = {}
    for family in sorted(families, key=digest):
        split = "train"
        if len(splits) < 2 * share:
            split = "test" if len(splits) < share else "validation"
        splits.update(dict.fromkeys(families[family], split))
    return splits


def draw_takes(
    speaker: Speaker, words: list[str], rng: np.random.Generator
) -> tuple[list[Take], list[float]]:
    """How each word is said, and by what factor the vocal tract is made shorter for it."""
    takes, tracts = [], []
    pitch, speed, shorter = rng.uniform(0.1, 0.9), rng.uniform(0.72, 1.25), rng.uniform(0.9, 1.14)
    for word in words:
        # An engine with few voices varies widely from take to take; one with many has speakers
        # who stay near their own manner.
        if speaker.engine != "espeak-ng":
            pitch, speed, shorter = rng.uniform(), rng.uniform(0.72, 1.2), rng.uniform(0.88, 1.15)
        take = Take(
            word=word,
            pitch=float(np.clip(pitch + rng.normal(0, 0.06), 0, 1)),
            speed=float(speed * rng.uniform(0.9, 1.1)),
            mark=str(rng.choice(["", "!", "?", "."])),
        )
        takes.append(take)
        tracts.append(shorter * float(rng.uniform(0.98, 1.02)))
    return takes, tracts


def digest(*parts: object) -> str:
    """A hash of the parts, in hexadecimal digits."""
    return sha256("|".join(map(str, parts)).encode()).hexdigest()


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that depend on the parts and on nothing else."""
    return np.random.default_rng(int(digest(*parts), 16))
