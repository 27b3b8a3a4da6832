"""What each part of the method is worth: `python tests/benchmarks/ablation.py DATA TEACHER OUT`.

Trains the student of one width again and again from the same float twin and under the same budget,
each time without one part, and prints a table. Every row is a folder in OUT
that goes on where it was stopped.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from bicompile.model.checkpoint import load_checkpoint
from bicompile.training import phases
from bicompile.training.allocator import keep_freed_memory
from bicompile.training.cache import Split, load_features
from bicompile.training.corpus import Corpus, read_corpus
from bicompile.training.epochs import run_phase
from bicompile.training.evaluation import accuracy
from bicompile.training.ranks import Ranks
from bicompile.training.recipe import Recipe, load_recipe
from bicompile.training.run import Run

EPOCHS = 3
WHOLE = {"numbers": "channel", "one_bit": ()}
"""As in the paper, where a row says nothing else; so do thresholds from 0."""

MEANS = {"thresholds": "means"}


@dataclass(frozen=True)
class Row:
    """What differs from the whole method, and how often it is tried."""

    name: str
    network: dict[str, Any] = field(default_factory=dict)
    student: dict[str, str] = field(default_factory=dict)
    augmentation: dict[str, int] = field(default_factory=dict)
    seeds: int = 2


ROWS = (
    Row("the whole method"),
    Row("thresholds from channel means", student=MEANS),
    Row("one number a layer, from channel means", {"numbers": "layer"}, MEANS),
    Row(
        "the same, one bit before conv2 and linear",
        {"numbers": "layer", "one_bit": ("front.conv2", "linear")},
        MEANS,
    ),
    Row(
        "the same, and before every expand",
        {"numbers": "layer", "one_bit": ("front.conv2", "linear", "blocks.*.expand")},
        MEANS,
    ),
    Row("single sign", {"activation": "single"}, seeds=1),
    Row("single sign, thresholds from channel means", {"activation": "single"}, MEANS),
    Row("dual, one learned scale a layer", {"activation": "learned-scale"}),
    Row("one learned scale, thresholds from channel means", {"activation": "learned-scale"}, MEANS),
    Row("without distillation", student={"distillation_kind": "none"}),
    Row("plain distillation", student={"distillation_kind": "plain"}, seeds=1),
    Row("plain sign, nothing learned", {"binarizer": "plain"}, seeds=1),
    Row(
        "without shifts and masks",
        augmentation=dict.fromkeys(("time_shift", "time_mask", "mel_mask"), 0),
        seeds=1,
    ),
)


def plan_of(row: Row, seed: int) -> Recipe:
    """The default recipe with this budget and one width, changed as the row says."""
    base = load_recipe("default")
    student = {"epochs": EPOCHS, "width_weights": (1.0,), "thresholds": "zero", **row.student}
    changes: dict[str, Any] = {
        "seed": seed,
        "network": base.network.to_json() | {"widths": (0,), **WHOLE, **row.network},
        "teacher": base.teacher.model_copy(update={"twins": ()}).model_dump(),
        "student": base.student.model_copy(update=student).model_dump(),
        "narrowing": None,
        "settling": None,
        "augmentation": base.augmentation.model_copy(update=row.augmentation).model_dump(),
    }
    return Recipe.model_validate_json(
        base.model_copy(update=changes).model_dump_json(warnings=False)
    )


def train(
    row: Row, seed: int, corpus: Corpus, splits: dict[str, Split], teacher: Path, out: Path
) -> dict[str, float]:
    """Train one row with one seed, or go on; returns its test accuracy."""
    plan = plan_of(row, seed)
    folder = out / f"{row.name.replace(' ', '-').replace(',', '')}-{seed}"
    identity = {"recipe": plan.to_json(), "data": corpus.origin}
    run = Run(folder, [phases.STUDENT], identity)
    run.check()
    if (student := run.finished(phases.STUDENT)) is None:
        network, _record = load_checkpoint(teacher)
        clips = splits["train"].features[0]
        phase = phases.student_phase(plan, network, clips, "cpu")
        run_phase(run, plan, phase, splits, Ranks())
        student = run.finished(phases.STUDENT)
        assert student is not None
    return accuracy(student, splits["test"], 0)


def main(data: Path, teacher: Path, out: Path) -> None:
    """Train everything and print the table."""
    keep_freed_memory()
    base = load_recipe("default")
    corpus = read_corpus(data, base.network.labels)
    splits = load_features(corpus, copies=base.student.copies, seed=base.seed)
    lines = []
    for row in ROWS:
        found = [train(row, seed, corpus, splits, teacher, out) for seed in range(1, row.seeds + 1)]
        cells = [f"{100 * mean(each[name] for each in found):.1f}" for name in found[0]]
        spread = "/".join(f"{100 * each['all']:.1f}" for each in found)
        lines.append(f"| {row.name} | {spread} | {' | '.join(cells)} |")
        if len(lines) == 1:
            print(f"| | all, by seed | {' | '.join(found[0])} |")
            print(f"| --- | --- |{' --- |' * len(found[0])}")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
