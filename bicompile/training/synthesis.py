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
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import track

from bicompile.errors import UserError
from bicompile.features import RATE, SAMPLES
from bicompile.files import atomic_file
from bicompile.model.config import KEYWORDS
from bicompile.training.engines import ENGINES
from bicompile.training.sample import LIST_OF_SPLIT, NOISE_FOLDER
from bicompile.training.sounds import NOISES, Samples, finish, make_noise
from bicompile.training.speakers import OTHER_WORDS, Speaker, draw_takes, generator, speakers

FORMAT = "bicompile-corpus"
VERSION = 2
NOISE_SECONDS = 60
CLIP_BYTES = 2 * SAMPLES + 44
SPARE_BYTES = 64 << 20  # for the noise, and for what the engines write on the way


def synthesize(out: Path, *, seed: int, jobs: int) -> None:
    """Make the corpus in the folder `out`, which must be new or empty.

    Equal seeds and engine versions give equal bytes, for any number of processes `jobs`. Voices
    are finished one by one in a hidden folder beside `out`; when stopped, the same call goes on.
    Raises UserError when an engine is missing, `out` holds something else, or nothing can be
    written there, which is found out before anyone speaks when the disk is too small.
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
    _check_space(work, sum(speaker.clips for speaker in todo))
    todo.sort(key=lambda speaker: -speaker.others)  # the long ones first, so that all end together
    with multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupts) as pool:
        done = pool.imap_unordered(speak, todo)
        for _ in track(done, description="synthesize", total=len(todo)):
            pass
    with atomic_file(work / "manifest.json") as path:
        entries = _collect(work, everyone)
        _make_background(work, entries, seed)
        path.write_text(json.dumps({**origin, "speakers": entries}, indent=1))
    shutil.rmtree(work / "speakers")
    (work / "plan.json").unlink()
    if out.exists():
        out.rmdir()
    work.rename(out)
    count = sum(len(entry["files"]) for entry in entries)
    print(f"{out}: {count} clips of {len(everyone)} voices")


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


def _check_space(work: Path, clips: int) -> None:
    needed, free = clips * CLIP_BYTES + SPARE_BYTES, shutil.disk_usage(work).free
    if free < needed:
        raise UserError(
            f"{work.parent} has {free >> 20} MiB left, the corpus takes {needed >> 20} MiB; "
            "free some space or choose another place"
        )


def _record_of(work: Path, speaker: Speaker) -> Path:
    return work / "speakers" / f"{speaker.identity}.json"


def _record_speaker(work: Path, seed: int, speaker: Speaker) -> None:
    """Write all clips of a speaker, and last of all the list of them."""
    rng = generator(seed, speaker.engine, speaker.voice)
    counts: dict[str, int] = {}
    files = []
    # A full disk is told as one of the record; what a stopped process leaves goes with its folder.
    with (
        atomic_file(_record_of(work, speaker)) as path,
        tempfile.TemporaryDirectory(dir=work / "speakers") as scratch,
    ):
        for word, clip in _say_all(speaker, rng, Path(scratch)):
            take = counts[word] = counts.get(word, -1) + 1
            name = f"{word}/{speaker.identity}_nohash_{take}.wav"
            _write(work / name, clip)
            files.append(name)
        path.write_text(json.dumps(files))


def _say_all(
    speaker: Speaker, rng: np.random.Generator, scratch: Path
) -> Iterator[tuple[str, Samples]]:
    others = [str(word) for word in rng.permutation(np.array(OTHER_WORDS * 20))[: speaker.others]]
    words = [*np.repeat(KEYWORDS, speaker.takes).tolist(), *others]
    takes, tracts = draw_takes(speaker, words, rng)
    sounds = ENGINES[speaker.engine].speak(speaker.voice, takes, scratch)
    for word, tract, (sound, rate) in zip(words, tracts, sounds, strict=True):
        if not sound.any():
            raise UserError(
                f"the speech engine {speaker.engine} is silent when its voice {speaker.voice} "
                f"says {word!r}; install the engine again"
            )
        yield word, finish(sound, rate, tract, rng)


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
        noise = make_noise(kind, length, generator(seed, "background", kind))
        _write(work / NOISE_FOLDER / f"{kind}.wav", np.clip(noise * np.float32(0.1), -1, 1))
    files = [file for entry in entries if entry["split"] == "train" for file in entry["files"]]
    rng = generator(seed, "background", "babble")
    babble = np.zeros(length, np.float32)
    for _ in range(8 * NOISE_SECONDS):
        samples, _rate = soundfile.read(work / files[rng.integers(len(files))], dtype="float32")
        start = rng.integers(length - SAMPLES)
        babble[start : start + SAMPLES] += samples
    _write(work / NOISE_FOLDER / "babble.wav", np.clip(babble / babble.std() * 0.1, -1, 1))
