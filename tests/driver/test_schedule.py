"""A schedule behind the real doors: its times put one job each or none, the tick sees to it, and the manifest is the schedule."""

from datetime import timedelta
from typing import Any

import pytest

from control_plane.core.state import Job, JobState
from jobspec import keys
from tests.driver.faults import Crash, crash_after, crash_before
from tests.driver.house import DATA, House

#: The house's clock begins on 2026-11-01 at 12:00 UTC.
HOURLY = {"cron": "0 * * * *"}


def put(house: House, schedule: dict[str, Any] = HOURLY, **changes: Any) -> Job:
    house.put("jobs/nightly.yaml", name="nightly", schedule=schedule, **changes)
    return house.named("nightly")


def jobs(house: House) -> list[str]:
    return [job.name for job in house.jobs if job.parent is not None]


def finish_all(house: House) -> None:
    for job in house.jobs:
        if job.parent is not None and not job.ended and job.attempts:
            house.finish(job=job)
    house.tick(30)
    house.tick(30)


def until(house: House, hour: int, minute: int = 0) -> None:
    """A tick at that time of the first day, and none before."""
    house.wait((house.now.replace(hour=hour, minute=minute) - house.now).total_seconds())
    house.tick(0)


def test_a_job_with_a_dated_name_is_put_at_each_time_and_launched_at_once(house: House) -> None:
    schedule = put(house)
    assert schedule.reason == "next at 2026-11-01 13:00 UTC"
    assert jobs(house) == []
    until(house, 13)
    assert jobs(house) == ["nightly-20261101-1300"]
    assert house.named("nightly-20261101-1300").state is JobState.LAUNCHED
    assert house.named("nightly").reason == "next at 2026-11-01 14:00 UTC; nightly-20261101-1300 was put"
    for _ in range(5):
        house.tick()
    assert len(jobs(house)) == 1
    finish_all(house)
    until(house, 14)
    assert jobs(house) == ["nightly-20261101-1300", "nightly-20261101-1400"]


def test_a_time_at_which_the_last_job_is_not_over_is_skipped_and_said(house: House) -> None:
    put(house, limits={"max_runtime": "10h"})
    until(house, 13)
    job = house.named("nightly-20261101-1300")
    for _ in range(13):
        house.beat(job=house.named(job.name))
        house.tick(280)
    assert jobs(house) == [job.name]
    assert "14:00 was skipped: nightly-20261101-1300 is not over" in house.named("nightly").reason


def test_of_times_that_passed_unseen_the_newest_counts_and_only_within_the_hour(house: House) -> None:
    put(house)
    until(house, 16, 20)
    assert jobs(house) == ["nightly-20261101-1600"]
    assert "3 before it passed unseen" in house.named("nightly").reason


def test_a_daily_time_that_was_seen_hours_late_is_missed_and_not_put_at_noon(house: House) -> None:
    put(house, {"cron": "0 13 * * *"})
    until(house, 15)
    assert jobs(house) == []
    assert "13:00 was missed: it was seen 120 minutes late" in house.named("nightly").reason
    assert house.named("nightly").reason.startswith("next at 2026-11-02 13:00 UTC")


def test_times_are_those_of_the_zone(house: House) -> None:
    assert put(house, {"cron": "30 9 * * *", "timezone": "America/New_York"}).reason == "next at 2026-11-01 14:30 UTC"


def test_after_until_the_schedule_ends_once_its_last_job_is_over_with_one_e_mail(house: House) -> None:
    put(house, {**HOURLY, "until": "2026-11-01T13:30:00+00:00"})
    until(house, 13)
    assert house.named("nightly").reason.startswith("its last job is at work")
    finish_all(house)
    schedule = house.named("nightly")
    assert (schedule.state, schedule.settled) == (JobState.SUCCEEDED, True)
    assert sorted(mail.subject.split(",")[0] for mail in house.mails) == ["[Dropforge] nightly finished", "[Dropforge] nightly-20261101-1300 finished"]


def test_deleting_the_manifest_ends_the_schedule_and_cancels_its_job(house: House) -> None:
    put(house)
    until(house, 13)
    house.delete("jobs/nightly.yaml")
    assert {job.state for job in house.jobs} == {JobState.CANCELLED}
    house.tick()
    until(house, 14)
    assert len(jobs(house)) == 1
    assert house.live() == []


def test_a_manifest_put_over_it_changes_the_schedule_and_leaves_the_job_at_work_alone(house: House) -> None:
    put(house)
    until(house, 13)
    put(house, {"cron": "0 17 * * *"}, limits={"budget_usd": 7})
    schedule = house.named("nightly")
    assert schedule.state is JobState.WAITING
    assert schedule.reason.startswith("next at 2026-11-01 17:00 UTC")
    assert house.named("nightly-20261101-1300").state is JobState.LAUNCHED
    finish_all(house)
    until(house, 16)
    assert len(jobs(house)) == 1
    until(house, 17)
    job = house.named("nightly-20261101-1700")
    assert job.manifest is not None
    assert job.manifest.limits.budget_usd == 7


def test_a_wrong_manifest_put_over_it_is_refused_and_the_schedule_goes_on(house: House) -> None:
    put(house)
    house.put("jobs/nightly.yaml", name="nightly", schedule={"cron": "* * * * *"})
    assert house.status("nightly", refused=True) is not None
    until(house, 13)
    assert len(jobs(house)) == 1


def test_a_schedule_may_put_sweeps(house: House) -> None:
    put(house, sweep={"grid": {"training.learning_rate": [1e-4, 2e-4]}})
    until(house, 13)
    assert sorted(jobs(house)) == ["nightly-20261101-1300", "nightly-20261101-1300-001", "nightly-20261101-1300-002"]
    finish_all(house)
    house.tick()
    assert house.named("nightly-20261101-1300").state is JobState.SUCCEEDED


def test_the_status_tells_the_next_time_and_the_jobs(house: House) -> None:
    put(house)
    until(house, 13)
    status = house.status("nightly")
    assert status is not None
    assert status.schedule is not None
    assert f"{status.schedule.next_at:%H:%M}" == "14:00"
    assert [job.name for job in status.schedule.jobs] == ["nightly-20261101-1300"]


@pytest.mark.parametrize("fault", [crash_before, crash_after])
@pytest.mark.parametrize("skip", range(4))
def test_a_death_at_any_write_puts_no_time_twice_and_loses_none(house: House, fault: Any, skip: int) -> None:
    put(house)
    house.wait(timedelta(hours=1).total_seconds())
    house.faults.once("dynamodb.transact_write_items", fault, skip=skip)
    for _ in range(3):
        try:
            house.tick(20)
        except Crash:
            house.forget()
    assert jobs(house) == ["nightly-20261101-1300"]
    assert len(house.live()) == 1


def test_a_schedule_first_looked_at_after_its_last_time_ends(house: House) -> None:
    house.leave("jobs/nightly.yaml", name="nightly", schedule=HOURLY | {"until": "2026-11-01T13:30:00Z"})
    house.faults.once("dynamodb.transact_write_items", crash_after)
    with pytest.raises(Crash):
        house.touch("jobs/nightly.yaml")
    until(house, 16)
    schedule = house.named("nightly")
    assert schedule.state is JobState.SUCCEEDED
    assert "13:00 was missed" in schedule.reason
    assert jobs(house) == []


def test_the_changed_manifest_of_a_schedule_that_has_ended_makes_no_second_one(house: House) -> None:
    put(house)
    house.wait(600)
    put(house, HOURLY | {"until": "2026-11-01T13:30:00Z"})
    until(house, 13)
    finish_all(house)
    until(house, 14)
    assert house.named("nightly").state is JobState.SUCCEEDED
    before = [job.job_id for job in house.jobs]
    assert house.touch("jobs/nightly.yaml").job_id == house.named("nightly").job_id, "its event, once more"
    until(house, 14, 15)  # a census
    assert [job.job_id for job in house.jobs] == before


def test_a_sweep_that_a_schedule_has_put_is_cancelled_by_itself_with_its_jobs_and_the_schedule_goes_on(house: House) -> None:
    put(house, sweep={"grid": {"training.seed": [1, 2, 3]}, "concurrency": 2})
    until(house, 13)
    (sweep,) = [job for job in house.jobs if job.is_sweep and job.parent is not None]
    key = keys.cancel_key(sweep.job_id)
    house.s3.write(DATA, key, b"")
    house.touch(key)
    sweep = house.named(sweep.name)
    assert (sweep.state, sweep.reason) == (JobState.CANCELLED, "it was cancelled by itself, and no other job with it")
    its_jobs = [job for job in house.jobs if job.parent is not None and job.parent.job_id == sweep.job_id]
    assert {(job.state, job.reason) for job in its_jobs} == {(JobState.CANCELLED, f"{sweep.name} was cancelled")}
    assert house.named("nightly").state is JobState.WAITING
