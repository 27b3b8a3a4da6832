"""Tuning records: MetaSchedule's database in a folder, and programs that are scheduled by it.

Beside the database's two files `records.json` says what the records' numbers are and which TVM
wrote them.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import meta_schedule

from bicompile.codegen import tvm_target
from bicompile.errors import UserError
from bicompile.files import atomic_file
from bicompile.program import Program
from bicompile.schedules.decisions import Decisions, decide, decided, from_json, spaces, to_json
from bicompile.targets import Target

FORMAT = "bicompile-records/1"
ABOUT = "records.json"
WORKLOADS, TRIALS = "database_workload.json", "database_tuning_record.json"
FAILED = 1e9
"""Records of at least so many seconds are MetaSchedule's way to say that a trial failed."""

ZOO = "zoo"
"""Names the records that ship with bicompile, for the zoo's layers."""

_SHIPPED = Path(str(files("bicompile"))) / "zoo" / "records"
_PACKAGE = "apache-tvm"


@dataclass(frozen=True)
class Trial:
    """One record.

    Attributes:
        decisions: what was tried.
        cost: what it cost, in the unit of its Records; None where the trial failed.
    """

    decisions: Decisions
    cost: float | None


@dataclass(frozen=True)
class Records:
    """A folder of records.

    Attributes:
        folder: where they lie.
        unit: what costs are in: "seconds", or "modelled cycles".
        source: who says so: a device, or the model of a core.
        database: MetaSchedule's.
    """

    folder: Path
    unit: str
    source: str
    database: Any

    def trials(self, kernel: tirx.PrimFunc, target: Target) -> list[Trial]:
        """The trials of a kernel for a target that fit, the cheapest first, the failed ones last.

        Equal ones are in the order they were made. The kernel is a nest as `lower` gives it.
        """
        return [trial for trial in self._read(kernel, target) if isinstance(trial, Trial)]

    def best(self, kernel: tirx.PrimFunc, target: Target) -> Trial | None:
        """The cheapest trial of a kernel for a target, the earlier one of equals.

        None where the default did not pass: nothing says then that another is not slower.
        """
        passed = [trial for trial in self.trials(kernel, target) if trial.cost is not None]
        _, default = decided(kernel, target.arch)
        return passed[0] if default in [trial.decisions for trial in passed] else None

    def misfits(self, kernel: tirx.PrimFunc, target: Target) -> list[str]:
        """Why records of this kernel do not fit, each reason once."""
        return list(dict.fromkeys(m for m in self._read(kernel, target) if isinstance(m, str)))

    def _read(self, kernel: tirx.PrimFunc, target: Target) -> list[Trial | str]:
        module = workload(kernel)
        if not self.database.has_workload(module):
            return []
        known = self.database.commit_workload(module)
        wanted, found = str(tvm_target(target)), list[Trial | str]()
        for record in self.database.get_all_tuning_records():
            if not record.workload.same_as(known):
                continue
            if str(record.target) != wanted:
                found.append(f"tuned for {record.target.attrs['mcpu']}")
                continue
            schedule = s_tir.Schedule(module)
            try:
                record.trace.apply_to_schedule(schedule, remove_postproc=False)
                _, decisions = decided(schedule.mod["main"], target.arch)
            except (ValueError, RuntimeError):
                found.append("its schedule is none of this version's")
                continue
            seconds = min(map(float, record.run_secs or [FAILED]))
            scale = 1.0 if self.unit == "seconds" else CYCLES_PER_SECOND
            found.append(Trial(decisions, None if seconds >= FAILED else seconds * scale))
        return found


CYCLES_PER_SECOND = 1e9
"""MetaSchedule keeps seconds; a modelled cycle stands there as a nanosecond."""


def workload(kernel: tirx.PrimFunc) -> tvm.IRModule:
    """A kernel as MetaSchedule's databases know it."""
    return tvm.IRModule({"main": kernel})


def records_folder(name: str, target: Target) -> Path:
    """The folder that an argument means: a path, or `zoo`; raises UserError."""
    if name != ZOO:
        return Path(name)
    if target.name not in _shipped():
        raise UserError(
            f"the zoo has no records for {target.name}, it has them for {', '.join(_shipped())}: "
            "leave --records out, or make your own with bicompile tune"
        )
    return _SHIPPED / target.name


def open_records(names: Sequence[str] | None, target: Target) -> list[Records]:
    """The records that arguments mean; without any the shipped ones, if there are for a target."""
    if names is None:
        names = [ZOO] if target.name in _shipped() else []
    return [load_records(records_folder(name, target)) for name in names]


def _shipped() -> list[str]:
    return sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir())


def load_records(folder: Path) -> Records:
    """Read a folder of records.

    Raises UserError when there are none, when they are damaged, and when another TVM wrote them.
    """
    about = read_about(folder)
    trials = folder / TRIALS
    if about is None or not trials.is_file() or not trials.read_text().strip():
        raise UserError(f"{folder} holds no records: make some with bicompile tune --records")
    return Records(folder, about["unit"], about["source"], open_database(folder))


def open_database(folder: Path) -> Any:
    """MetaSchedule's database of a folder; raises UserError where it is damaged.

    A last line that was not written to its end is dropped.
    """
    for name in (WORKLOADS, TRIALS):
        _drop_unfinished(folder / name)
    workloads = len(_lines(folder / WORKLOADS, [str, str]))
    for index, _ in _lines(folder / TRIALS, [int, list]):
        if not 0 <= index < workloads:  # MetaSchedule would read what is not there
            raise _damaged(folder / TRIALS, f"it names workload {index} of {workloads}")
    try:
        return meta_schedule.database.JSONDatabase(work_dir=str(folder))
    except Exception as error:
        raise _damaged(folder / TRIALS, "MetaSchedule cannot read its database") from error


def _lines(path: Path, kinds: list[type]) -> list[Any]:
    """What stands in the lines of a file of JSON; raises UserError unless each is of these kinds.

    A file that is not there has none.
    """
    found = []
    try:
        lines = path.read_text().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            found.append(json.loads(line))
            if not isinstance(found[-1], list) or list(map(type, found[-1])) != kinds:
                raise _damaged(path, f"line {number} is none of MetaSchedule's")
    except ValueError as error:
        raise _damaged(path, "MetaSchedule cannot read its database") from error
    return found


def _drop_unfinished(path: Path) -> None:
    """Cut off a last line without an end: whoever wrote it was stopped."""
    if not path.is_file():
        return
    text = path.read_text(errors="replace")
    if text and not text.endswith("\n"):
        with atomic_file(path) as whole:
            whole.write_text(text[: text.rfind("\n") + 1])


def read_about(folder: Path) -> Mapping[str, str] | None:
    """What `records.json` says; None where a folder is empty or not there.

    Raises UserError for another folder, and for records of another TVM.
    """
    path = folder / ABOUT
    if not path.is_file():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; give the folder of bicompile tune --records")
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{folder} is no folder of records (no {ABOUT} in it): give the folder of "
                "bicompile tune --records"
            )
        return None
    try:
        about = json.loads(path.read_text())
        written = about["versions"][_PACKAGE]
        fields = {name: str(about[name]) for name in ("format", "unit", "source")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "it is not what bicompile tune writes") from error
    if fields["format"] != FORMAT:
        raise UserError(
            f"{path} has the format {fields['format']!r}, this version reads {FORMAT!r}: tune "
            "again into another folder"
        )
    if written != version(_PACKAGE):
        raise UserError(
            f"the records in {folder} are of TVM {written}, this is {version(_PACKAGE)}: tune "
            "again into another folder"
        )
    return fields


@contextmanager
def written_alone(folder: Path) -> Iterator[None]:
    """While this holds, another process that wants to write the folder's records is refused."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(
            f"{folder} is being written by another tuning: wait for it, or choose another folder"
        ) from error
    finally:
        os.close(number)


def write_about(folder: Path, unit: str, source: str) -> None:
    """Begin a folder of records, or check that one holds the same numbers; raises UserError."""
    about = read_about(folder)
    if about is not None:
        if (about["unit"], about["source"]) != (unit, source):
            raise UserError(
                f"{folder} holds {about['unit']} ({about['source']}), these would be {unit} "
                f"({source}): choose another folder"
            )
        return
    fields = {"format": FORMAT, "unit": unit, "source": source}
    versions = {name: version(name) for name in ("bicompile", _PACKAGE)}
    with atomic_file(folder / ABOUT) as path:
        path.write_text(json.dumps({**fields, "versions": versions}, indent=2) + "\n")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}): tune again into another folder")


@dataclass(frozen=True)
class Applied:
    """A program whose kernels have the decisions of records.

    Attributes:
        program: to be scheduled.
        tuned: the trial that was taken, by kernel.
        left_out: why nothing was, by kernel.
    """

    program: Program
    tuned: Mapping[str, Trial]
    left_out: Mapping[str, str]


def apply_records(program: Program, target: Target, records: Records) -> Applied:
    """Give every kernel that has records for a target the decisions of the best."""
    tuned: dict[str, Trial] = {}
    left_out = {}
    for name, kernel in tunable_kernels(program, target.arch).items():
        best = records.best(kernel, target)
        if best is not None:
            tuned[name] = best
        elif reasons := records.misfits(kernel, target):
            left_out[name] = f"its records are left out ({', '.join(reasons)})"
        elif records.trials(kernel, target):
            left_out[name] = "its records are left out (the default did not pass)"
        else:
            left_out[name] = "there is no record of it"
    decisions = {name: trial.decisions for name, trial in tuned.items()}
    return Applied(with_decisions(program, decisions), tuned, left_out)


def with_records(program: Program, target: Target, records: Records) -> Applied:
    """The same; raises UserError where no record fits any kernel."""
    applied = apply_records(program, target, records)
    if not applied.tuned:
        first = next(iter(applied.left_out.items()), None)
        why = "it has no kernel that can be tuned" if first is None else ": ".join(first)
        raise UserError(
            f"no record in {records.folder} fits this model and {target.name} ({why}): "
            "tune this model for this target, or leave --records out"
        )
    return applied


def tunable_kernels(program: Program, arch: str) -> dict[str, tirx.PrimFunc]:
    """The kernels of a program that have decisions, by name."""
    return {name: kernel for name, kernel in program.kernels.items() if spaces(kernel, arch)}


def with_decisions(program: Program, decisions: Mapping[str, Decisions]) -> Program:
    """The program with decisions written into its kernels, by name."""
    kernels = {
        name: decide(kernel, decisions[name]) if name in decisions else kernel
        for name, kernel in program.kernels.items()
    }
    return dataclasses.replace(program, kernels=kernels)


def schedules_of(program: Program, arch: str) -> dict[str, dict[str, Any]]:
    """The decisions of a program's kernels, defaults too, as a manifest has them."""
    kernels = tunable_kernels(program, arch)
    return {name: to_json(decided(kernel, arch)[1]) for name, kernel in kernels.items()}


def with_schedules(program: Program, schedules: Mapping[str, Mapping[str, Any]]) -> Program:
    """The program with the decisions of a manifest; raises UserError where they are none."""
    try:
        decisions = {name: from_json(fields) for name, fields in schedules.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "the manifest names schedules that this version does not have: compile the model again"
        ) from error
    return with_decisions(program, decisions)
