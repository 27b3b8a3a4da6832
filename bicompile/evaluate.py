"""Accuracy of several networks on the same clips, whatever they run in."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bicompile.classifiers import Classifier, open_classifiers
from bicompile.errors import UserError
from bicompile.features import log_mel
from bicompile.training.corpus import Corpus, read_corpus
from bicompile.training.sample import Sample
from bicompile.training.scores import Accuracy, Difference, accuracies, by_engine, differences

SPLITS = ("test", "validation")
_Step = TypeVar("_Step")
_BATCH = 32  # clips between two moves of the progress bar


@dataclass(frozen=True)
class Evaluation:
    """What several networks heard in the same clips.

    Attributes:
        data: the corpus folder.
        split: of the corpus.
        total: clips that the split has.
        labels: the words that `spoken` and `heard` count by.
        clips: those that were heard.
        spoken: int64 (n,).
        classifiers: the networks.
        heard: int64 (n,) for each of them.
    """

    data: Path
    split: str
    total: int
    labels: tuple[str, ...]
    clips: tuple[Sample, ...]
    spoken: NDArray[np.int64]
    classifiers: tuple[Classifier, ...]
    heard: tuple[NDArray[np.int64], ...]

    @cached_property
    def engines(self) -> list[str]:
        """Who made each clip."""
        return [clip.engine for clip in self.clips]

    @property
    def counts(self) -> dict[str, int]:
        """Clips under `all` and under each engine."""
        return {name: int(mine.sum()) for name, mine in by_engine(self.engines).items()}

    @property
    def indices(self) -> range:
        """Of the classifiers."""
        return range(len(self.classifiers))

    def accuracy(self, number: int) -> Accuracy:
        """Share of right answers of a classifier."""
        return accuracies(self.heard[number] == self.spoken, self.engines)

    def above_first(self, number: int) -> dict[str, Difference]:
        """Accuracy of a classifier above that of the first, in points."""
        right, reference = self.heard[number] == self.spoken, self.heard[0] == self.spoken
        return differences(right, reference, self.engines, [clip.voice for clip in self.clips])

    def write_plots(self, folder: Path) -> None:
        """Write the accuracies, confusions and learning curves as PNG (see `plots.write`)."""
        from bicompile.training import plots  # matplotlib comes with the extra `train`

        heard = {c.name: found for c, found in zip(self.classifiers, self.heard, strict=True)}
        histories = {c.thing: c.history for c in self.classifiers if c.history}
        plots.write(folder, self.labels, self.spoken, heard, self.engines, histories)


def evaluate(
    things: Sequence[str],
    data: Path,
    *,
    split: str = "test",
    clips: int | None = None,
    width: int | None = None,
    device: str = "emulator",
    skip_unreadable: bool = False,
) -> Evaluation:
    """Let every width of every thing (see `open_classifiers`) hear a split of a corpus.

    All hear the same numpy features. `clips` takes so many clips only, those whose names have the
    smallest SHA-1. `width` is that of artifacts with several, else each is heard.
    `skip_unreadable` is that of `read_corpus`. Raises UserError when a thing or the corpus cannot
    be used, and when their labels do not fit.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; give one of {', '.join(SPLITS)}")
    with ExitStack() as stack:
        classifiers = [
            c
            for thing in dict.fromkeys(things)
            for c in open_classifiers(thing, device, stack, width)
        ]
        labels = classifiers[0].labels
        for other in classifiers[1:]:
            _check_same_labels(classifiers[0], other)
        corpus = read_corpus(data, labels, skip_unreadable=skip_unreadable)
        whole = corpus.of(split)
        chosen = sorted(whole, key=lambda clip: _digest(corpus, clip))[:clips]
        features = np.stack([log_mel(clip.load()) for clip in _shown(chosen, "features")])
        heard = [_hear(classifier, features, labels) for classifier in classifiers]
    return Evaluation(
        data=data,
        split=split,
        total=len(whole),
        labels=labels,
        clips=tuple(chosen),
        spoken=np.array([labels.index(clip.label) for clip in chosen]),
        classifiers=tuple(classifiers),
        heard=tuple(heard),
    )


def _digest(corpus: Corpus, clip: Sample) -> str:
    """SHA-1 of `word/file.wav`, for a piece of noise `_background_noise_/file.wav@start`."""
    place = f"@{clip.start}" if clip.engine == "silence" else ""
    name = clip.path.relative_to(corpus.folder).as_posix() + place
    return sha1(name.encode(), usedforsecurity=False).hexdigest()


def _hear(
    classifier: Classifier, features: NDArray[np.float32], labels: tuple[str, ...]
) -> NDArray[np.int64]:
    """The word with the largest score as an index into `labels`, int64 (n,)."""
    batches = [features[start : start + _BATCH] for start in range(0, len(features), _BATCH)]
    scores = np.concatenate(
        [classifier.scores(batch) for batch in _shown(batches, classifier.name)]
    )
    if np.isnan(scores).any():
        raise UserError(f"{classifier.name} gives scores that are not numbers; train it again")
    order = np.array([labels.index(label) for label in classifier.labels])
    heard: NDArray[np.int64] = order[scores.argmax(axis=1)]
    return heard


def _shown(steps: Sequence[_Step], what: str) -> Iterator[_Step]:
    """The steps, with a progress bar on a terminal."""
    console = Console(stderr=True)
    yield from track(steps, what, console=console, transient=True, disable=not console.is_terminal)


def _check_same_labels(first: Classifier, other: Classifier) -> None:
    differing = sorted(set(first.labels) ^ set(other.labels))
    if differing:
        raise UserError(
            f"{other.name} and {first.name} have other labels (only one has "
            f"{', '.join(differing)}); evaluate networks for the same words together"
        )
