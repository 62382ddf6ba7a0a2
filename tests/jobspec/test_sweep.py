"""The jobs of a sweep and the times of a schedule: which they are, and that what may be swept is in the manifest."""

import json
from datetime import UTC, datetime

import pytest

from jobspec.allowed import kinds_at
from jobspec.children import alone, children_of, instance_of, limit_usd
from jobspec.manifest import Manifest
from jobspec.reading import Refusal, read_manifest
from jobspec.schedule import Schedule
from jobspec.sweep import MAX_JOBS, SWEEPABLE
from jobspec.tree import read_tree
from tests.jobspec.manifests import GOOD, accepted


@pytest.mark.parametrize("path", SWEEPABLE)
def test_what_may_be_swept_is_one_value_of_the_manifest(path: str) -> None:
    kinds = kinds_at(tuple(path.split(".")))
    assert kinds
    assert kinds <= {"number", "integer", "string", "boolean"}


def test_a_grid_makes_every_combination_and_the_last_key_changes_first() -> None:
    manifest = accepted(GOOD + "sweep: {grid: {training.learning_rate: [1e-4, 3e-4], adapter.r: [4, 8]}}\n")
    children = children_of(manifest)
    assert [child.name for child in children] == [f"{manifest.name}-00{n}" for n in (1, 2, 3, 4)]
    assert [(c.manifest.training.learning_rate, c.manifest.adapter.r) for c in children] == [(1e-4, 4), (1e-4, 8), (3e-4, 4), (3e-4, 8)]
    assert all(child.manifest.sweep is None for child in children)


def test_the_same_jobs_come_of_a_manifest_that_was_kept_and_read_again() -> None:
    manifest = accepted(GOOD + "limits: {max_runtime: 2h}\nsweep: {cases: [{adapter.dora: true}, {training.scheduler: linear, training.seed: 7}]}\n")
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again == manifest
    assert children_of(again) == children_of(manifest)


@pytest.mark.parametrize(("limits", "expected"), [("{}", 5.0), ("{budget_usd: 3}", 3.0)])
def test_each_jobs_limit_is_its_own_and_no_more_than_its_part_of_the_whole(limits: str, expected: float) -> None:
    sweep = "{grid: {adapter.r: [1, 2, 3, 4, 5]}, budget_usd: 20, concurrency: 4}"
    assert limit_usd(accepted(GOOD + f"limits: {limits}\nsweep: {sweep}\n")) == expected


def test_too_many_jobs_are_refused_with_their_number() -> None:
    answer = read_manifest((GOOD + f"sweep: {{grid: {{training.seed: {list(range(13))}, adapter.r: [1, 2, 3, 4, 5]}}}}\n").encode())
    assert isinstance(answer, Refusal)
    assert answer.problems[0].message == f"makes 65 jobs; a sweep has {MAX_JOBS} at most"


GRID = "limits: {max_runtime: 2h}\nsweep: {grid: {training.learning_rate: [1e-4, 3e-4], adapter.r: [4, 8]}, budget_usd: 6, concurrency: 3}\n"
NIGHTLY = "schedule: {cron: '0 3 * * *'}\n"
AT = datetime(2026, 11, 25, 3, tzinfo=UTC)


def put_alone(text: str, name: str) -> Manifest | None:
    """The job of that name by a manifest of its own, read as the control plane would read it."""
    written = read_tree(text).value
    assert isinstance(written, dict)
    own = alone(written, accepted(text), name)
    return accepted(json.dumps(own)) if own is not None else None


def test_a_job_of_a_sweep_has_the_same_manifest_when_it_is_put_alone() -> None:
    text = GOOD + GRID
    for child in children_of(accepted(text)):
        assert put_alone(text, child.name) == child.manifest


def test_so_has_a_job_of_a_schedule_and_one_of_a_sweep_that_a_schedule_has_put() -> None:
    name = accepted(GOOD).name
    assert put_alone(GOOD + NIGHTLY, f"{name}-20261125-0300") == instance_of(accepted(GOOD + NIGHTLY), AT)
    sweep = instance_of(accepted(GOOD + GRID + NIGHTLY), AT)
    assert put_alone(GOOD + GRID + NIGHTLY, sweep.name) == sweep
    assert put_alone(GOOD + GRID + NIGHTLY, f"{sweep.name}-002") == children_of(sweep)[1].manifest


@pytest.mark.parametrize(
    ("more", "name"),
    [(GRID, "{}-005"), (GRID, "{}"), (NIGHTLY, "{}-20261325-0300"), (NIGHTLY, "{}-20261125-0300-001"), (GRID + NIGHTLY, "{}-20261125-03001"), ("", "{}-001")],
)
def test_a_name_that_no_job_of_it_has_makes_none(more: str, name: str) -> None:
    assert put_alone(GOOD + more, name.format(accepted(GOOD).name)) is None


def test_summer_time_takes_no_day_and_gives_none_twice() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    spring = schedule.passed(datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 3, 30, 12, tzinfo=UTC))
    autumn = schedule.passed(datetime(2027, 10, 30, 12, tzinfo=UTC), datetime(2027, 11, 1, 12, tzinfo=UTC))
    assert [f"{at:%d %H:%M}" for at in spring] == ["28 01:00", "29 00:30", "30 00:30"]
    assert len(autumn) == 2


def test_no_time_comes_after_until_nor_at_since() -> None:
    schedule = Schedule(cron="0 * * * *", until=datetime(2027, 1, 1, 3, tzinfo=UTC))
    start = datetime(2027, 1, 1, 1, tzinfo=UTC)
    assert [at.hour for at in schedule.passed(start, datetime(2027, 1, 2, tzinfo=UTC))] == [2, 3]
    assert schedule.next_after(datetime(2027, 1, 1, 3, tzinfo=UTC)) is None
