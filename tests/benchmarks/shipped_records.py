"""Makes the records that ship from folders of `bicompile tune` for one target.

    python tests/benchmarks/shipped_records.py cortex-a53 FOLDER ...

Keeps the default and the best of every kernel, which is all that `--records zoo` needs.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tvm import s_tir
from tvm.s_tir.meta_schedule.database import TuningRecord

from bicompile.records import load_records, open_database, write_about
from bicompile.schedules.decisions import decided
from bicompile.targets import Target, find_target

ZOO = Path(__file__).parents[2] / "bicompile" / "zoo" / "records"


def ship(target: Target, folders: Sequence[Path]) -> None:
    """Write the folder of a target anew."""
    out = ZOO / target.name
    shutil.rmtree(out, ignore_errors=True)
    for folder in folders:
        records = load_records(folder)
        write_about(out, records.unit, records.source)
        database = open_database(out)
        for module in {record.workload.mod for record in records.database.get_all_tuning_records()}:
            kernel = module["main"]
            best, (_, default) = records.best(kernel, target), decided(kernel, target.arch)
            if best is None:
                continue
            kept, known = {default, best.decisions}, database.commit_workload(module)
            for record in records.database.get_all_tuning_records():
                if record.workload.mod == module and _decisions(record, target) in kept:
                    database.commit_tuning_record(
                        TuningRecord(
                            record.trace, known, record.run_secs, record.target, record.args_info
                        )
                    )


def _decisions(record: TuningRecord, target: Target) -> object:
    schedule = s_tir.Schedule(record.workload.mod)
    record.trace.apply_to_schedule(schedule, remove_postproc=False)
    return decided(schedule.mod["main"], target.arch)[1]


if __name__ == "__main__":
    ship(find_target(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
