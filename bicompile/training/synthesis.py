"""A keyword corpus spoken by speech engines, in the folder layout of Speech Commands.

Clips lie in a folder per word; `validation_list.txt` and `testing_list.txt` name those of held-out
voices, `_background_noise_` holds minutes of noise, and `manifest.json` says who spoke what.
"""

import io
import json
import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import track

from bicompile.errors import UserError
from bicompile.features import RATE, SAMPLES
from bicompile.files import atomic_file
from bicompile.training.engines import ENGINES, EspeakNg, Take
from bicompile.training.sounds import NOISES, Samples, finish, make_noise

FORMAT = "bicompile-corpus"
VERSION = 1
NOISE_FOLDER = "_background_noise_"
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHER_WORDS = (
    *("bed", "bird", "cat", "dog", "eight", "five", "four", "happy", "house", "marvin", "nine"),
    *("one", "seven", "sheila", "six", "three", "tree", "two", "wow", "zero"),
)
ACCENTS = (
    *("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd"),
    *("en-029", "en-us-nyc"),
)
# Effects rather than voices: no pitch to speak of, or hardly to be understood.
NOT_VOICES = (
    *("whisper", "whisperf", "UniRobot", "Demonic", "fast", "Storm", "Tweaky", "robosoft"),
    "anikaRobot",
)
FLITE_VOICES = {"kal16": "train", "rms": "train", "awb": "validation", "slt": "test"}
HELD_OUT = 0.12  # share of the variants for validation, and the same again for test
NOISE_SECONDS = 60
LIST_OF_SPLIT = {"validation": "validation_list.txt", "test": "testing_list.txt"}


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
        return _digest(self.engine, self.voice)[:8]


def synthesize(out: Path, *, seed: int, jobs: int) -> None:
    """Make the corpus in the folder `out`, which must be new or empty.

    Equal seeds and engine versions give equal bytes, for any number of processes `jobs`. Voices
    are finished one by one in a hidden folder beside `out`; when stopped, the same call goes on.
    Raises UserError when an engine is missing, `out` holds something else, or nothing can be
    written there.
    """
    out = out.resolve()
    versions = {name: engine.version() for name, engine in ENGINES.items()}
    origin = {"format": FORMAT, "version": VERSION, "seed": seed, "engines": versions}
    if _is_done(out, origin):
        print(f"{out} already holds this corpus")
        return
    everyone = speakers()
    work = _work_folder(out, {**origin, "speakers": [asdict(speaker) for speaker in everyone]})
    speak = partial(_record_speaker, work, seed)
    todo = [speaker for speaker in everyone if not _record_of(work, speaker).exists()]
    todo.sort(key=lambda speaker: -speaker.others)  # the long ones first, so that all end together
    with multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupts) as pool:
        done = pool.imap_unordered(speak, todo)
        for _ in track(done, description="synthesize", total=len(todo)):
            pass
    entries = _collect(work, everyone)
    _make_background(work, entries, seed)
    shutil.rmtree(work / "speakers")
    (work / "plan.json").unlink()
    with atomic_file(work / "manifest.json") as path:
        path.write_text(json.dumps({**origin, "speakers": entries}, indent=1))
    if out.exists():
        out.rmdir()
    work.rename(out)
    count = sum(len(entry["files"]) for entry in entries)
    print(f"{out}: {count} clips of {len(everyone)} voices")


def speakers() -> list[Speaker]:
    """Everyone who speaks: every espeak-ng variant in every accent, and the voices of flite.

    Whole variants are held out, in every accent. Variants whose names differ by a trailing number
    are near copies (`steph`, `steph2`) and stay together.
    """
    found = []
    for variant, split in split_variants(EspeakNg().variants()).items():
        takes, others = (2, 8) if split == "train" else (1, 5)
        for accent in ACCENTS:
            found.append(Speaker("espeak-ng", f"{accent}+{variant}", split, takes, others))
    for voice, split in FLITE_VOICES.items():
        takes, others = (30, 150) if split == "train" else (15, 75)
        found.append(Speaker("flite", voice, split, takes, others))
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
    for family in sorted(families, key=_digest):
        split = "train"
        if len(splits) < 2 * share:
            split = "test" if len(splits) < share else "validation"
        splits.update(dict.fromkeys(families[family], split))
    return splits


def _digest(*parts: object) -> str:
    return sha256("|".join(map(str, parts)).encode()).hexdigest()


def _generator(*parts: object) -> np.random.Generator:
    """Random numbers that depend on the parts and on nothing else."""
    return np.random.default_rng(int(_digest(*parts), 16))


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which ends its processes quietly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_done(out: Path, origin: dict[str, Any]) -> bool:
    """Whether `out` holds the corpus of this origin; refuse anything else that it may hold."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder for the corpus")
    if not out.exists() or not any(out.iterdir()):
        return False
    try:
        manifest = dict(json.loads((out / "manifest.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{out} already holds something other than a corpus; choose an empty or new folder"
        ) from None
    if any(manifest.get(name) != value for name, value in origin.items()):
        raise UserError(
            f"{out} already holds a corpus of another seed or other engine versions; "
            "choose an empty or new folder"
        )
    return True


def _work_folder(out: Path, plan: dict[str, Any]) -> Path:
    """Return the hidden folder beside `out`, with what an earlier call of this plan finished."""
    work = out.parent / f".{out.name}.partial"
    path = work / "plan.json"
    try:
        if work.exists() and (not path.exists() or json.loads(path.read_text()) != plan):
            shutil.rmtree(work)
        for folder in (*KEYWORDS, *OTHER_WORDS, NOISE_FOLDER, "speakers"):
            (work / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{work} cannot be written ({error.strerror}); choose another place for the corpus"
        ) from error
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(plan))
    return work


def _record_of(work: Path, speaker: Speaker) -> Path:
    return work / "speakers" / f"{speaker.identity}.json"


def _record_speaker(work: Path, seed: int, speaker: Speaker) -> None:
    """Write all clips of a speaker, and last of all the list of them."""
    rng = _generator(seed, speaker.engine, speaker.voice)
    counts: dict[str, int] = {}
    files = []
    with tempfile.TemporaryDirectory() as scratch:
        for word, clip in _say_all(speaker, rng, Path(scratch)):
            take = counts[word] = counts.get(word, -1) + 1
            name = f"{word}/{speaker.identity}_nohash_{take}.wav"
            _write(work / name, clip)
            files.append(name)
    with atomic_file(_record_of(work, speaker)) as path:
        path.write_text(json.dumps(files))


def _say_all(
    speaker: Speaker, rng: np.random.Generator, scratch: Path
) -> Iterator[tuple[str, Samples]]:
    engine = ENGINES[speaker.engine]
    # An engine with few voices varies widely from take to take; one with many has speakers who
    # stay near their own manner.
    few_voices = speaker.engine == "flite"
    pitch, speed, shorter = rng.uniform(0.1, 0.9), rng.uniform(0.72, 1.25), rng.uniform(0.9, 1.14)
    others = [str(word) for word in rng.permutation(np.array(OTHER_WORDS * 20))[: speaker.others]]
    for word in [*np.repeat(KEYWORDS, speaker.takes).tolist(), *others]:
        if few_voices:
            pitch, speed, shorter = rng.uniform(), rng.uniform(0.8, 1.33), rng.uniform(0.88, 1.15)
        take = Take(
            pitch=float(np.clip(pitch + rng.normal(0, 0.06), 0, 1)),
            speed=float(speed * rng.uniform(0.9, 1.1)),
            mark=str(rng.choice(["", "!", "?", "."])),
        )
        sound, rate = engine.speak(word, speaker.voice, take, scratch)
        yield word, finish(sound, rate, shorter * rng.uniform(0.98, 1.02), rng)


def _write(path: Path, samples: Samples) -> None:
    data = io.BytesIO()
    integers = np.round(samples * 32767).astype(np.int16)
    soundfile.write(data, integers, RATE, format="WAV", subtype="PCM_16")
    path.write_bytes(data.getvalue())  # so that a full disk is told as such


def _collect(work: Path, everyone: list[Speaker]) -> list[dict[str, Any]]:
    """Write the two lists and return who spoke which clips."""
    entries = [
        {
            "engine": speaker.engine,
            "voice": speaker.voice,
            "split": speaker.split,
            "files": json.loads(_record_of(work, speaker).read_text()),
        }
        for speaker in everyone
    ]
    for split, name in LIST_OF_SPLIT.items():
        files = [file for entry in entries if entry["split"] == split for file in entry["files"]]
        (work / name).write_text("".join(f"{file}\n" for file in sorted(files)))
    return entries


def _make_background(work: Path, entries: list[dict[str, Any]], seed: int) -> None:
    """Write a minute of every kind of noise, and one of many training voices at once."""
    length = NOISE_SECONDS * RATE
    for kind in NOISES:
        noise = make_noise(kind, length, _generator(seed, "background", kind))
        _write(work / NOISE_FOLDER / f"{kind}.wav", np.clip(noise * np.float32(0.1), -1, 1))
    files = [file for entry in entries if entry["split"] == "train" for file in entry["files"]]
    rng = _generator(seed, "background", "babble")
    babble = np.zeros(length, np.float32)
    for _ in range(8 * NOISE_SECONDS):
        samples, _rate = soundfile.read(work / files[rng.integers(len(files))], dtype="float32")
        start = rng.integers(length - SAMPLES)
        babble[start : start + SAMPLES] += samples
    _write(work / NOISE_FOLDER / "babble.wav", np.clip(babble / babble.std() * 0.1, -1, 1))
