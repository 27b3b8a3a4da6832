"""`bicompile tune`: the binary kernels of a model, or of products, into a folder of records."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from tvm import tirx

from bicompile.calls import describe_calls
from bicompile.errors import UserError
from bicompile.explain import explain
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.product import Product, product_program
from bicompile.records import Records, open_database, tunable_kernels, write_about, written_alone
from bicompile.rewriting import run_passes
from bicompile.schedules.decisions import to_json
from bicompile.targets import Target
from bicompile.tuning.meters import open_meter
from bicompile.tuning.tuner import LOG, Job, Tuner, make_jobs
from bicompile.zoo import onnx_file


@dataclass(frozen=True)
class Tuned:
    """What the records say of one kernel.

    Attributes:
        kernel: its name in the program.
        layer: the first layer that it computes.
        default: cost of the default schedule; None where it never passed.
        best: the lowest cost; None where nothing passed.
        decisions: what gave it.
        trials: how many were made, in this run and before.
        failed: how many of them failed.
    """

    kernel: str
    layer: str
    default: float | None
    best: float | None
    decisions: dict[str, Any]
    trials: int
    failed: int


@dataclass(frozen=True)
class Result:
    """What tuning gave: a row a kernel, and what their costs are."""

    folder: Path
    unit: str
    source: str
    rows: Sequence[Tuned]

    @property
    def log(self) -> Path:
        """Where the trials that failed are told."""
        return self.folder / LOG


@dataclass(frozen=True)
class Kernel:
    """A kernel to tune: its nest, and the first layer that it computes."""

    nest: tirx.PrimFunc
    layer: str = ""


def kernels_of_model(
    source: str, target: Target, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> dict[str, Kernel]:
    """The kernels of a model (see zoo.onnx_file) that can be tuned, by their name in the program.

    Raises UserError for what is not accepted, and for a model that has none.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    lowered = run_passes(traced, sign_of_zero=sign_of_zero, check=False)
    program = lower(lowered)
    layers: dict[str, str] = {}
    for call in describe_calls(program, lowered, explain(name, traced, lowered)):
        layers.setdefault(call.kernel, call.layer or call.node)
    found = tunable_kernels(program, target.arch)
    if not found:
        raise UserError(
            f"{name} has no kernel that can be tuned, it has no binary layer but depthwise ones: "
            "bicompile explain says what its layers become, --shapes K,M,N takes any shape"
        )
    return {kernel: Kernel(nest, layers.get(kernel, "")) for kernel, nest in found.items()}


def kernels_of_products(products: Sequence[Product], target: Target) -> dict[str, Kernel]:
    """The kernel of every product as `bicompile compare` has it, by K,M,N."""
    found = {}
    for product in products:
        _, weights = product.operands()
        (nest,) = tunable_kernels(product_program(product, weights), target.arch).values()
        found[f"{product.bits},{product.outputs},{product.columns}"] = Kernel(nest)
    return found


def tune_kernels(
    kernels: Mapping[str, Kernel], target: Target, folder: Path, *, device: str, trials: int
) -> Result:
    """Tune every kernel until it has so many trials.

    `device` is `emulator`, `host` or `rpc://HOST:PORT/KEY`. Trials that the folder holds already
    count. Raises UserError for what is not accepted, KeyboardInterrupt after Ctrl-C, when what was
    under way is in the folder too; a second Ctrl-C waits for nothing.
    """
    meter = open_meter(device, target)
    write_about(folder, meter.unit, meter.source)
    with written_alone(folder):
        records = Records(folder, meter.unit, meter.source, open_database(folder))
        jobs = make_jobs({name: kernel.nest for name, kernel in kernels.items()}, target, trials)
        with _shown(jobs, meter.unit) as changed:
            tuner = Tuner(jobs, target, records, meter, changed)
            with _stopped_gently(tuner):
                tuner.run()
    if tuner.stopped:
        raise KeyboardInterrupt
    return Result(folder, meter.unit, meter.source, [_row(job, kernels) for job in jobs])


def _row(job: Job, kernels: Mapping[str, Kernel]) -> Tuned:
    name = job.bench.name
    layer = kernels[name].layer
    best, decisions = job.best or (None, job.search.default)
    return Tuned(name, layer, job.default, best, to_json(decisions), job.done, job.failed)


@contextmanager
def _stopped_gently(tuner: Tuner) -> Iterator[None]:
    """Let the first Ctrl-C stop the tuner after the trials that are under way."""

    def stop(number: int, frame: FrameType | None) -> None:
        tuner.stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(jobs: Sequence[Job], unit: str) -> Iterator[Any]:
    """A bar a kernel on a terminal, with the best so far and what it beats."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    told = TextColumn("{task.fields[told]}")
    with Progress(
        *columns, told, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        tasks: dict[str, TaskID] = {
            job.bench.name: progress.add_task(job.bench.name, total=job.trials, told="")
            for job in jobs
        }

        def changed(job: Job) -> None:
            told = told_costs(job.default, job.best[0] if job.best else None, unit)
            failed = f", {job.failed} failed" if job.failed else ""
            task = tasks[job.bench.name]
            progress.update(task, completed=min(job.done, job.trials), told=told + failed)

        yield changed


def told_costs(default: float | None, best: float | None, unit: str) -> str:
    """The best cost, the default's, and how they compare."""
    if best is None:
        return "none passed"
    if default is None:
        return f"{told_cost(best, unit)}, the default did not pass"
    return (
        f"{told_cost(best, unit)}, default {told_cost(default, unit)} ({best / default - 1:+.1%})"
    )


def told_cost(cost: float, unit: str) -> str:
    """A cost in figures for people."""
    return f"{cost * 1e6:.2f} µs" if unit == "seconds" else f"{cost:.0f} {unit}"
