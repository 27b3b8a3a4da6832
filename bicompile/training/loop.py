"""A training run: a float teacher, the binary student, float twins of its other widths."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bicompile.model.network import BiFSMNv2
from bicompile.training import phases
from bicompile.training.allocator import keep_freed_memory
from bicompile.training.cache import Split, load_features
from bicompile.training.corpus import read_corpus
from bicompile.training.epochs import run_phase
from bicompile.training.ranks import Ranks, join
from bicompile.training.recipe import Recipe, load_recipe
from bicompile.training.results import show_results
from bicompile.training.run import Phase, Run
from bicompile.training.scan import describe


def train(data: Path, out: Path, *, recipe: str, skip_unreadable: bool = False) -> None:
    """Train teacher, student and float twins, and report test accuracy by width and engine.

    `out` receives a checkpoint for each phase (`teacher.safetensors`, `student.safetensors`, ...),
    `metrics.jsonl` (a line per epoch) and, while training, `state.pt`. The same call goes on from
    there; a finished run is only reported. Under torchrun every process takes its share of each
    batch, and the first one writes. Raises UserError for bad data, recipe or output folder, and
    when the loss is no longer a finite number; KeyboardInterrupt after Ctrl-C, when the state has
    been saved.
    """
    keep_freed_memory()
    with join() as ranks:
        plan = ranks.share(lambda: load_recipe(recipe))
        corpus = ranks.share(
            lambda: read_corpus(data, plan.network.labels, skip_unreadable=skip_unreadable)
        )
        if corpus.unreadable and ranks.main:
            print(f"left out {len(corpus.unreadable)}: {describe(corpus.unreadable)}")
        facts = {"recipe": plan.to_json(), "data": corpus.fingerprint(), "corpus": corpus.origin}
        identity = json.loads(json.dumps(facts))  # as it will be read again: lists, not tuples
        run = Run(out, phases.names(plan), identity)
        ranks.share(run.check)
        copies = max(plan.teacher.copies, plan.student.copies)
        found = ranks.one_of_host_first(
            lambda: load_features(corpus, copies=copies, seed=plan.seed)
        )
        splits = {name: _on_device(split, ranks.device) for name, split in found.items()}
        networks = _train_all(run, plan, splits, ranks)
        if ranks.main:
            run.state_path.unlink(missing_ok=True)
            show_results(out, plan, networks, splits["test"])


def _on_device(split: Split, device: str) -> Split:
    return replace(split, features=split.features.to(device), labels=split.labels.to(device))


def _train_all(
    run: Run, plan: Recipe, splits: dict[str, Split], ranks: Ranks
) -> dict[str, BiFSMNv2]:
    """Do what is left of every phase; networks by phase, in eval mode."""

    def trained(name: str, make: Callable[[], Phase]) -> BiFSMNv2:
        network = ranks.share(lambda: run.finished(name))
        if network is None:
            run_phase(run, plan, make(), splits, ranks)
            network = ranks.share(lambda: run.finished(name))
        assert network is not None
        return network.to(ranks.device)

    def twin(width: int) -> BiFSMNv2:
        return trained(
            phases.twin_name(plan, width), lambda: phases.twin_phase(plan, width, ranks.device)
        )

    teacher = twin(min(plan.network.widths))
    clips = splits["train"].features[0]
    student = trained(
        phases.STUDENT, lambda: phases.student_phase(plan, teacher, clips, ranks.device)
    )
    students = {phases.STUDENT: student}
    for name, how, make in (
        (phases.NARROWED, plan.narrowing, phases.narrowed_phase),
        (phases.SETTLED, plan.settling, phases.settled_phase),
    ):
        if how is not None:
            student = trained(name, partial(make, plan, student, teacher))
            students[name] = student
    twins = {phases.twin_name(plan, width): twin(width) for width in plan.teacher.twins}
    return {phases.TEACHER: teacher, **students, **twins}
