import json
from collections.abc import Callable

import pytest
from conftest import A53, COMPUTES_NOTHING, CRASHES, NEST, WRITES_PAST_ITS_OUTPUT

from bicompile.devices import GoneError
from bicompile.records import TRIALS, load_records
from bicompile.schedules.decisions import Decisions, Tree
from bicompile.targets import find_target, machine_arch
from bicompile.tuning.host_meter import HostMeter
from bicompile.tuning.meters import EmulatorMeter
from bicompile.tuning.tuner import LOG, Job, Tuner

Make = Callable[..., Tuner]


def is_changed(decisions: Decisions) -> bool:
    """Whether a candidate is another than the default."""
    return not isinstance(decisions, Tree) or decisions.order != 0 or decisions.overlap != 1


def test_the_default_is_among_the_trials_and_nothing_chosen_is_slower(tuner: Make) -> None:
    made = tuner(EmulatorMeter(A53), A53, 6)
    made.run()
    trials = made.records.trials(NEST, A53)
    assert len(trials) == made.jobs[0].done == 6
    costs = {trial.decisions: trial.cost for trial in trials}
    best = made.records.best(NEST, A53)
    assert best is not None
    assert best.cost <= costs[made.jobs[0].search.default] == made.jobs[0].default


def test_the_same_again_measures_nothing_and_more_trials_go_on(tuner: Make) -> None:
    tuner(EmulatorMeter(A53), A53, 3).run()
    again = tuner(EmulatorMeter(A53), A53, 3)
    again.run()
    assert again.jobs[0].done == 3
    more = tuner(EmulatorMeter(A53), A53, 5)
    more.run()
    tried = [trial.decisions for trial in more.records.trials(NEST, A53)]
    assert len(tried) == len(set(tried)) == 5


def test_whatever_stops_the_work_every_trial_told_is_in_the_folder(tuner: Make) -> None:
    def stop(job: Job) -> None:
        made.stopped = job.done == 2

    made = tuner(EmulatorMeter(A53), A53, 50, changed=stop)
    made.run()
    assert len(load_records(made.records.folder).trials(NEST, A53)) == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (CRASHES, "write of 4 bytes at 0x8"),
        (WRITES_PAST_ITS_OUTPUT, "right past the end of output"),
        (COMPUTES_NOTHING, "192 of 192 results are wrong"),
    ],
)
def test_a_bad_candidate_is_recorded_as_failed_and_never_chosen(
    tuner: Make, body: str, said: str
) -> None:
    made = tuner(EmulatorMeter(A53), A53, 4, is_changed, body)
    made.run()
    failed = [trial for trial in made.records.trials(NEST, A53) if trial.cost is None]
    assert failed
    assert len(failed) == made.jobs[0].failed
    best = load_records(made.records.folder).best(NEST, A53)
    assert best is not None
    assert not is_changed(best.decisions)
    assert said in (made.records.folder / LOG).read_text()


@pytest.mark.skipif(machine_arch() not in ("x86_64", "aarch64"), reason="no timer for it")
@pytest.mark.parametrize("body", [CRASHES, WRITES_PAST_ITS_OUTPUT, COMPUTES_NOTHING])
def test_a_bad_candidate_on_this_machine_fails_alone(tuner: Make, body: str) -> None:
    host = find_target("host")
    default = tuner(HostMeter(host), host, 1).jobs[0].search.default
    made = tuner(HostMeter(host), host, 3, lambda decisions: decisions != default, body)
    made.run()
    costs = [trial.cost for trial in made.records.trials(NEST, host)]
    assert costs[0] is not None
    assert 0 < costs[0] < 1e-3
    assert costs[1:] == [None, None]


def test_where_the_default_fails_nothing_is_chosen(tuner: Make) -> None:
    made = tuner(EmulatorMeter(A53), A53, 20, lambda _: True, CRASHES)
    made.run()
    assert made.jobs[0].done == made.jobs[0].failed == 3
    assert made.records.best(NEST, A53) is None


class Vanishing(EmulatorMeter):
    """Measures twice; then it is gone."""

    left = 2

    def measure(self, *given: object) -> float:
        self.left -= 1
        if self.left < 0:
            raise GoneError("it is gone")
        return super().measure(*given)  # type: ignore[arg-type]


def test_a_device_that_goes_away_costs_no_trial(tuner: Make) -> None:
    made = tuner(Vanishing(A53), A53, 9)
    with pytest.raises(GoneError):
        made.run()
    assert len(load_records(made.records.folder).trials(NEST, A53)) == 2


def test_records_are_a_line_of_json_each(tuner: Make) -> None:
    made = tuner(EmulatorMeter(A53), A53, 2)
    made.run()
    lines = (made.records.folder / TRIALS).read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 2


def test_trials_of_another_target_are_none_of_this_one(tuner: Make) -> None:
    made = tuner(EmulatorMeter(A53), A53, 1)
    made.run()
    other = find_target("cortex-a72")
    assert made.records.trials(NEST, other) == []
    assert made.records.misfits(NEST, other) == ["tuned for cortex-a53"]
    assert isinstance(made.records.trials(NEST, A53)[0].decisions, Tree)
