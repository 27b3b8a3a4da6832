import json
from itertools import combinations
from pathlib import Path

import pytest
from command_line import Run, refused

from bicompile.calls import read_calls
from bicompile.pipeline import explain_plan
from bicompile.planned import Planned
from bicompile.targets import find_target


@pytest.fixture(scope="module")
def plan(keyword_onnx: Path) -> Planned:
    return explain_plan(str(keyword_onnx), find_target("cortex-a53"))


def test_steps_are_the_calls_of_the_artifact(plan: Planned, compiled_folder: Path) -> None:
    calls = read_calls(compiled_folder / "report.json")
    assert [step.layer for step in plan.steps] == [call.layer for call in calls]
    assert plan.constant_bytes == sum(call.constant_bytes for call in calls)
    scratch = sum(place.size for place in plan.places if place.name.startswith("scratch"))
    assert plan.moved_bytes == sum(call.moved_bytes for call in calls) + scratch


def test_a_buffer_lives_from_the_step_that_writes_it_to_the_last_that_reads_it(
    plan: Planned,
) -> None:
    for place in plan.places:
        writers = [n for n, step in enumerate(plan.steps) if place.name in step.writes]
        readers = [n for n, step in enumerate(plan.steps) if place.name in step.reads]
        assert place.first == min(writers + readers)
        assert place.last == max(writers + readers)
        assert place.name == "input" or place.first in writers


def test_what_lives_at_one_step_lies_apart_in_the_workspace(plan: Planned) -> None:
    places = [place for place in plan.places if place.offset is not None]
    for one, other in combinations(places, 2):
        if one.first <= other.last and other.first <= one.last:
            apart = one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
            assert apart
    assert 0 < plan.live_bytes <= plan.workspace_bytes


def test_input_and_output_are_the_callers(plan: Planned) -> None:
    callers = [place for place in plan.places if place.offset is None]
    assert [place.shape for place in callers] == [(1, 1, 32, 32), (1, 12)]


def test_a_plan_is_printed_and_told_as_json(
    bicompile: Run, keyword_onnx: Path, plan: Planned
) -> None:
    command = ("explain", keyword_onnx, "--target", "cortex-a53", "--plan")
    ended = bicompile(*command)
    assert ended.status == 0
    assert ended.out.endswith(
        f"workspace: {plan.workspace_bytes} bytes; {plan.live_bytes} live at once\n"
    )
    assert json.loads(bicompile(*command, "--json").out) == json.loads(json.dumps(plan.to_json()))


def test_a_plan_without_a_target_is_refused(bicompile: Run, keyword_onnx: Path) -> None:
    refused(bicompile("explain", keyword_onnx, "--plan"), "give --target too")
