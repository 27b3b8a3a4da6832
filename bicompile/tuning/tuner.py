"""MetaSchedule at work: candidates from our search, built in this process, measured by a meter.

Every trial is in the database as soon as it is measured, so whatever stops the work costs what is
under way and nothing else.
"""

import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import tvm_ffi
from tvm import s_tir
from tvm.ir.utils import derived_object
from tvm.s_tir.meta_schedule import TuneContext
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
from tvm.s_tir.meta_schedule.database import TuningRecord
from tvm.s_tir.meta_schedule.measure_callback import PyMeasureCallback
from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate, PySearchStrategy
from tvm.s_tir.meta_schedule.space_generator import ScheduleFn
from tvm.s_tir.meta_schedule.task_scheduler import RoundRobin

from bicompile.artifact import Executable
from bicompile.codegen import tvm_target
from bicompile.devices import GoneError
from bicompile.records import CYCLES_PER_SECOND, FAILED, Records, workload
from bicompile.schedules.decisions import Decisions, annotate, decided, spaces, to_json
from bicompile.targets import Target
from bicompile.tuning.bench import Bench
from bicompile.tuning.meter import Meter
from bicompile.tuning.search import Search

LOG = "failed.txt"
"""File of a records folder with a line for every trial that failed, and why."""


@dataclass
class Job:
    """The tuning of one kernel.

    Attributes:
        bench: its kernel, alone.
        trials: how many there are to be, with those that are in the records.
        done: how many there are.
        failed: how many of them failed.
        default: cost of the default schedule; None as long as it is not known.
        best: the lowest cost, and with what.
    """

    bench: Bench
    trials: int
    search: Search
    done: int = 0
    failed: int = 0
    default: float | None = None
    best: tuple[float, Decisions] | None = None

    def tell(self, decisions: Decisions, cost: float | None) -> None:
        """Note one trial."""
        self.done += 1
        self.search.tell(decisions, cost)
        if cost is None:
            self.failed += 1
            return
        if decisions == self.search.default:
            self.default = cost
        if self.best is None or cost < self.best[0]:
            self.best = cost, decisions


@dataclass
class _Built:
    job: Job
    executable: Executable


@dataclass
class Tuner:
    """One run of tuning.

    Attributes:
        jobs: the kernels that are tuned.
        target: what for.
        records: where trials go.
        meter: what measures them.
        changed: called after every trial.
        stopped: set to stop after the trials that are under way.
        gone: why nothing can be measured any more.
    """

    jobs: Sequence[Job]
    target: Target
    records: Records
    meter: Meter
    changed: Callable[[Job], None]
    stopped: bool = False
    gone: GoneError | None = None
    _built: dict[str, _Built] = field(default_factory=dict)

    def run(self) -> None:
        """Tune until every kernel has its trials; raises GoneError."""
        for job in self.jobs:
            for trial in self.records.trials(job.bench.nest, self.target):
                job.tell(trial.decisions, trial.cost)
            self.changed(job)
        waiting = [job for job in self.jobs if job.done < job.trials]
        if not waiting:
            return
        with tempfile.TemporaryDirectory() as folder:
            with _no_other_intrinsics():
                contexts = [self._context(job) for job in waiting]
            RoundRobin().tune(
                contexts,
                [1.0] * len(waiting),
                max_trials_global=sum(job.trials for job in waiting),
                max_trials_per_task=max(job.trials for job in waiting),
                num_trials_per_iter=self.meter.workers,
                builder=_Builder(self, Path(folder)),
                runner=_Runner(self),
                measure_callbacks=[_Keep(self, waiting)],
                database=self.records.database,
                cost_model=None,
            )
        if self.gone is not None:
            raise self.gone

    def _context(self, job: Job) -> TuneContext:
        return TuneContext(
            workload(job.bench.nest),
            target=tvm_target(self.target),
            space_generator=ScheduleFn(
                lambda schedule: annotate(schedule.mod["main"], self.target.arch, tunable=True),
                sch_rules=[],
                postprocs=[],
                mutator_probs={},
            ),
            search_strategy=_Strategy(self, job),
            task_name=job.bench.name,
            num_threads=1,
            rand_state=1,
            logger=_silent(),
        )

    def build(self, function: Any, folder: Path) -> str:
        """Build a nest with its decisions; the path of its object."""
        nest, _ = decided(function, self.target.arch)
        digest = tvm_ffi.structural_hash(nest)
        job = next(job for job in self.jobs if tvm_ffi.structural_hash(job.bench.nest) == digest)
        obj = Path(tempfile.mkdtemp(dir=folder)) / "kernel.o"
        self._built[str(obj)] = _Built(job, job.bench.build(function, obj))
        return str(obj)

    def measure(self, obj: str) -> float:
        """Seconds as MetaSchedule keeps them."""
        built = self._built.pop(obj)
        cost = self.meter.measure(built.job.bench, built.executable)
        return cost if self.meter.unit == "seconds" else cost / CYCLES_PER_SECOND

    def keep(self, job: Job, candidate: MeasureCandidate, result: RunnerResult) -> None:
        """Write one trial to the database."""
        if result.run_secs is None and self.gone is not None:
            return
        seconds = [float(s) for s in result.run_secs] if result.run_secs else [10 * FAILED]
        module = workload(job.bench.nest)
        known = self.records.database.commit_workload(module)
        self.records.database.commit_tuning_record(
            TuningRecord(
                candidate.sch.trace, known, seconds, tvm_target(self.target), candidate.args_info
            )
        )
        _, decisions = decided(candidate.sch.mod["main"], self.target.arch)
        if result.run_secs is None:
            self._log(job, decisions, str(result.error_msg))
            job.tell(decisions, None)
        else:
            scale = 1.0 if self.meter.unit == "seconds" else CYCLES_PER_SECOND
            job.tell(decisions, min(seconds) * scale)
        self.changed(job)

    def _log(self, job: Job, decisions: Decisions, why: str) -> None:
        with (self.records.folder / LOG).open("a") as log:
            log.write(f"{job.bench.name} {to_json(decisions)}: {' '.join(why.split())}\n")


@derived_object
class _Strategy(PySearchStrategy):  # type: ignore[misc]
    """Gives MetaSchedule what the search proposes."""

    def __init__(self, tuner: Tuner, job: Job) -> None:
        super().__init__()
        self._tuner = tuner
        self._job = job
        self._given = job.done

    def _initialize_with_tune_context(self, context: TuneContext) -> None:
        pass

    def pre_tuning(
        self,
        _trials: int,
        batch: int,
        design_spaces: Sequence[s_tir.Schedule],
        _database: Any = None,
        _cost_model: Any = None,
    ) -> None:
        kernels = spaces(self._job.bench.nest, self._tuner.target.arch)
        self._spaces = dict(zip(kernels, design_spaces, strict=True))
        self._values = kernels
        self._batch = batch

    def post_tuning(self) -> None:
        pass

    def generate_measure_candidates(self) -> list[MeasureCandidate] | None:
        candidates: list[MeasureCandidate] = []
        while len(candidates) < self._batch and self._given < self._job.trials:
            if self._tuner.stopped or self._tuner.gone is not None:
                break
            decisions = self._job.search.next()
            if decisions is None:
                break
            candidates.append(self._candidate(to_json(decisions)))
            self._given += 1
        return candidates or None

    def _candidate(self, chosen: Mapping[str, Any]) -> MeasureCandidate:
        """A schedule whose trace has sampled these decisions."""
        values = self._values[chosen["kernel"]]
        trace = self._spaces[chosen["kernel"]].trace
        sampled = [step for step in trace.insts if step.kind.name == "SampleCategorical"]
        for step, name in zip(sampled, values, strict=True):
            at = values[name].index(chosen[name])
            trace = trace.with_decision(step, at, remove_postproc=False)
        schedule = s_tir.Schedule(workload(self._job.bench.nest))
        trace.apply_to_schedule(schedule, remove_postproc=False)
        return MeasureCandidate(schedule, ArgInfo.from_prim_func(self._job.bench.nest))

    def notify_runner_results(
        self, _candidates: Sequence[MeasureCandidate], _results: Sequence[RunnerResult]
    ) -> None:
        pass

    def clone(self) -> "_Strategy":
        return _Strategy(self._tuner, self._job)


@derived_object
class _Builder(PyBuilder):  # type: ignore[misc]
    """Builds in this process; a candidate that cannot be built has failed."""

    def __init__(self, tuner: Tuner, folder: Path) -> None:
        super().__init__()
        self._tuner = tuner
        self._folder = folder

    def build(self, inputs: Sequence[Any]) -> list[BuilderResult]:
        results = []
        for given in inputs:
            try:
                path = self._tuner.build(given.mod["main"], self._folder)
                results.append(BuilderResult(path, None))
            except Exception as error:
                results.append(BuilderResult(None, f"{type(error).__name__}: {error}"))
        return results


@derived_object
class _Runner(PyRunner):  # type: ignore[misc]
    """Measures as many candidates at once as the meter can."""

    def __init__(self, tuner: Tuner) -> None:
        super().__init__()
        self._tuner = tuner

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return [_Result(self._tuner, str(given.artifact_path)) for given in inputs]


@derived_object
class _Result(PyRunnerFuture):  # type: ignore[misc]
    def __init__(self, tuner: Tuner, obj: str) -> None:
        super().__init__()
        self._tuner = tuner
        self._future: Future[float] = Future()
        # A daemon: what hangs in a call to a board must not keep the process.
        threading.Thread(target=self._measure, args=(obj,), daemon=True).start()

    def _measure(self, obj: str) -> None:
        try:
            self._future.set_result(self._tuner.measure(obj))
        except BaseException as error:
            self._future.set_exception(error)

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> RunnerResult:
        try:
            return RunnerResult([self._future.result(self._tuner.meter.timeout)], None)
        except GoneError as error:
            self._tuner.gone = error
            return RunnerResult(None, str(error))
        except TimeoutError:
            return RunnerResult(None, f"no answer in {self._tuner.meter.timeout:.0f} seconds")
        except Exception as error:
            return RunnerResult(None, f"{type(error).__name__}: {error}")


@derived_object
class _Keep(PyMeasureCallback):  # type: ignore[misc]
    def __init__(self, tuner: Tuner, jobs: Sequence[Job]) -> None:
        super().__init__()
        self._tuner = tuner
        self._jobs = jobs

    def apply(
        self,
        _scheduler: Any,
        task: int,
        candidates: Sequence[MeasureCandidate],
        _built: Sequence[BuilderResult],
        results: Sequence[RunnerResult],
    ) -> None:
        for candidate, result in zip(candidates, results, strict=True):
            self._tuner.keep(self._jobs[task], candidate, result)


@contextmanager
def _no_other_intrinsics() -> Iterator[None]:
    """Keep TVM from parsing its tensor intrinsics for other processors: that takes half a minute.

    A TuneContext imports them, though only MetaSchedule's own rules need them.
    """
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _silent() -> logging.Logger:
    """A logger for what MetaSchedule says of itself."""
    logger = logging.getLogger("bicompile.tuning.metaschedule")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def make_jobs(kernels: Mapping[str, Any], target: Target, trials: int) -> list[Job]:
    """A job for every kernel that has decisions."""
    return [
        Job(Bench(name, nest, target), trials, Search(spaces(nest, target.arch)))
        for name, nest in kernels.items()
    ]
