"""From sound to words: clips through features and an artifact on a device."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bicompile.artifact import Artifact
from bicompile.audio import read_wav
from bicompile.devices import Device
from bicompile.errors import UserError
from bicompile.features import log_mel

_SOUND_SUFFIXES = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class Recognition:
    """What an artifact heard in one clip.

    Attributes:
        clip: the file.
        word: the label of the largest output, its number where the model has no labels.
        probability: softmax of the outputs, for that word.
        runner_up: the second word.
        runner_up_probability: its probability.
        spoken: the label in the clip's path, `LABEL/NAME.wav`; None where there is none.
        notes: what was done to the file to make it one second at 16 kHz.
        instructions: counted by the device; None where it does not count.
    """

    clip: Path
    word: str
    probability: float
    runner_up: str
    runner_up_probability: float
    spoken: str | None
    notes: tuple[str, ...]
    instructions: int | None


def find_clips(paths: list[Path]) -> list[Path]:
    """The sound files in `paths`: files as given, folders searched, in order of their names.

    Raises UserError for a folder without sound.
    """
    clips: list[Path] = []
    for path in paths:
        if not path.is_dir():
            clips.append(path)
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SOUND_SUFFIXES)
        if not found:
            raise UserError(f"{path} has no sound files ({', '.join(_SOUND_SUFFIXES)}) in it")
        clips += found
    return clips


def features_of(clips: list[Path], artifact: Artifact) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """The log-mel of every clip, (n, 1, 1, 32, 32) float32, and the notes of each.

    Raises UserError for an unreadable clip, or a model that takes something else.
    """
    read = [read_wav(clip) for clip in clips]
    features = np.stack([log_mel(clip.samples) for clip in read])
    if features.shape[1:] != artifact.input.shape:
        raise UserError(
            f"{artifact.folder} takes {artifact.input.name} of shape {artifact.input.shape}, not "
            f"the log-mel {features.shape[1:]} of a clip; run it from Python with its own input"
        )
    return features, [clip.notes for clip in read]


def recognise(artifact: Artifact, device: Device, paths: list[Path]) -> list[Recognition]:
    """Run every clip on a device; raises UserError as find_clips and features_of do."""
    clips = find_clips(paths)
    features, notes = features_of(clips, artifact)
    with device.load(artifact.executable) as loaded:
        result = loaded.run(features)
    labels = artifact.labels or tuple(str(i) for i in range(result.outputs[0].size))
    recognitions = []
    for index, clip in enumerate(clips):
        probabilities = _softmax(result.outputs[index].ravel())
        order = np.argsort(-probabilities, kind="stable")  # of equal ones the first, as argmax
        best, second = int(order[0]), int(order[min(1, order.size - 1)])
        recognitions.append(
            Recognition(
                clip,
                labels[best],
                float(probabilities[best]),
                labels[second],
                float(probabilities[second]),
                clip.parent.name if clip.parent.name in labels else None,
                notes[index],
                None if result.instructions is None else result.instructions[index],
            )
        )
    return recognitions


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    shares: np.ndarray = exponentials / exponentials.sum()
    return shares
