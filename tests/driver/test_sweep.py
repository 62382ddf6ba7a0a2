"""A sweep behind the real doors: its jobs created once, so many at a time, within its money; ended with one e-mail and a table."""

import json
from typing import Any

import pytest

from control_plane.core.events import Ignored
from control_plane.core.state import Job, JobState
from jobspec import keys
from jobspec.marker import FailureCode, Results
from tests.driver.faults import Crash, crash_after, crash_before, meanwhile
from tests.driver.house import DATA, House
from tests.driver.test_feasibility import LLAMA_8B

RATES = [1e-4, 3e-4, 1e-3, 3e-3]


def put(house: House, **changes: Any) -> Job:
    sweep = {"grid": {"training.learning_rate": RATES}, **changes.pop("sweep", {})}
    house.put("jobs/many.yaml", name="many", sweep=sweep, **changes)
    return house.named("many")


def children(house: House) -> list[Job]:
    return [job for job in house.jobs if job.parent is not None]


def at_work(house: House) -> list[str]:
    return [job.name for job in children(house) if not job.ended]


def complete(house: House, name: str, loss: float = 1.5) -> None:
    house.finish(job=house.named(name), results=Results(steps=100, eval_loss_before=3.5, eval_loss_after=loss))
    house.tick()


def to_the_end(house: House, losses: dict[str, float]) -> None:
    for _ in range(40):
        for name in at_work(house):
            if house.named(name).attempts:
                house.finish(job=house.named(name), results=Results(steps=100, eval_loss_after=losses.get(name, 2.0)))
        house.tick()


def test_a_sweep_starts_as_many_jobs_as_may_be_at_work_and_no_more(house: House) -> None:
    parent = put(house, sweep={"concurrency": 2})
    assert at_work(house) == ["many-001", "many-002"]
    assert [job.state for job in children(house)] == [JobState.LAUNCHED, JobState.LAUNCHED], "at once, not at the next tick"
    assert parent.state is JobState.RUNNING
    assert [job.manifest.training.learning_rate for job in children(house) if job.manifest is not None] == RATES[:2]
    for _ in range(3):
        house.tick()
    assert len(house.live()) == 2


def test_the_next_job_starts_when_one_is_over_and_its_instance_gone(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    complete(house, "many-001")
    house.tick()
    assert at_work(house) == ["many-002"]


def test_the_best_is_named_in_one_e_mail_with_the_table_of_all(house: House) -> None:
    put(house, sweep={"concurrency": 4})
    to_the_end(house, {"many-003": 0.5, "many-001": 1.0})
    parent = house.named("many")
    assert parent.state is JobState.SUCCEEDED
    assert parent.reason == "4 of 4 jobs succeeded; the best is many-003: eval_loss 0.5"
    assert parent.settled
    (mail,) = house.mails
    assert mail.subject.startswith("[Dropforge] many finished, $")
    assert "dropforge download many-003" in mail.body
    assert [line.split(" (")[0].strip() for line in mail.body.splitlines() if line.startswith("  many-0") and "): " in line][-4:] == [
        f"many-00{n}" for n in (1, 2, 3, 4)
    ]
    status = house.status("many")
    assert status is not None
    assert status.sweep is not None
    assert (status.sweep.best, [job.value for job in status.sweep.jobs]) == ("many-003", [1.0, 2.0, 0.5, 2.0])
    assert status.sweep.cost_usd > 0
    assert status.receipt is None, "its jobs have theirs: the same dollars must not be counted twice"
    child = house.status("many-002")
    assert child is not None
    assert child.parent == "many"


def test_more_may_be_better(house: House) -> None:
    put(house, sweep={"concurrency": 4, "goal": "max"})
    to_the_end(house, {"many-002": 3.0})
    assert "the best is many-002" in house.named("many").reason


def test_each_job_sends_its_own_mails_where_that_is_asked_for(house: House) -> None:
    put(house, sweep={"concurrency": 4, "mails": "each"})
    to_the_end(house, {})
    assert len(house.mails) == 5


def test_deleting_the_manifest_cancels_every_job_and_starts_no_other(house: House) -> None:
    put(house, sweep={"concurrency": 2})
    house.delete("jobs/many.yaml")
    parent = house.named("many")
    assert parent.state is JobState.CANCELLED
    assert {job.state for job in children(house)} == {JobState.CANCELLED}
    for _ in range(4):
        house.tick()
    assert house.live() == []
    assert len(children(house)) == 2


def test_a_sweep_whose_deletion_was_not_told_is_cancelled_by_the_tick_though_put_again_since(house: House) -> None:
    put(house, sweep={"concurrency": 2})
    house.s3.remove(DATA, "jobs/many.yaml")
    house.tick()
    assert house.named("many").state is JobState.CANCELLED
    assert {job.state for job in children(house)} == {JobState.CANCELLED}


def test_one_wrong_job_refuses_the_whole_sweep_and_says_which(house: House) -> None:
    house.put("jobs/many.yaml", name="many", sweep={"cases": [{"adapter.r": 4}, {"adapter.r": 1000}]})
    (job,) = house.jobs
    assert job.state is JobState.REJECTED
    assert job.problems[0].message == "makes many-002 (r 1000): adapter.r is out of range"
    assert not house.live()


def test_a_job_that_would_not_fit_its_gpu_refuses_the_sweep_before_anything_is_paid(house: House) -> None:
    house.s3.write(DATA, "models/m/config.json", json.dumps(LLAMA_8B).encode())
    house.put("jobs/many.yaml", name="many", sweep={"grid": {"adapter.type": ["qlora", "full"]}}, compute={"instance_types": ["g5.xlarge"]})
    (job,) = house.jobs
    assert job.state is JobState.REJECTED
    assert job.problems[0].message.startswith("makes many-002 (type full): compute.instance_types lets the job start where it cannot fit")


def test_the_material_of_a_sweep_is_looked_at_once_for_all_its_jobs(house: House) -> None:
    seen: list[str] = []

    def gate(operation: str, subject: str, effect: Any) -> Any:
        seen.append(f"{operation} {subject}")
        return effect()

    house.account.gate = gate
    put(house, sweep={"concurrency": 1})
    assert seen.count("s3.get_object models/m/config.json") == 1


def test_a_name_that_is_taken_costs_that_one_job_only(house: House) -> None:
    house.put("jobs/other.yaml", name="many-002")
    put(house, sweep={"concurrency": 4})
    ledger = {child.name: child for child in house.named("many").children}
    assert ledger["many-002"].state == "REJECTED"
    assert f"job {house.named('many-002').job_id} of that name is active" in ledger["many-002"].reason
    assert {"many-001", "many-003", "many-004"} <= set(at_work(house))
    to_the_end(house, {})
    assert house.named("many").reason.startswith("3 of 4 jobs succeeded")


def test_only_so_many_jobs_start_as_the_money_covers(house: House) -> None:
    put(house, sweep={"concurrency": 2, "budget_usd": 3.0}, limits={"budget_usd": 1.0})
    ledger = house.named("many").children
    assert [child.limit_usd for child in ledger] == [1.0, 1.0]
    assert [job.manifest.limits.budget_usd for job in children(house) if job.manifest is not None] == [1.0, 1.0]


def test_each_jobs_limit_is_at_most_its_part_of_the_whole(house: House) -> None:
    put(house, sweep={"concurrency": 4, "budget_usd": 2.0})
    assert [child.limit_usd for child in house.named("many").children] == [0.5] * 4


def test_what_the_jobs_left_over_starts_the_last_and_then_the_money_is_up(house: House) -> None:
    put(house, sweep={"concurrency": 1, "budget_usd": 0.1, "cases": [{"training.seed": n} for n in range(8)], "grid": None})
    for _ in range(30):
        for name in at_work(house):
            if house.named(name).attempts:
                house.wait(240)
                house.finish(job=house.named(name))
        house.tick()
    parent = house.named("many")
    assert parent.state is JobState.STOPPED_BUDGET
    assert 1 < len(parent.children) < 8
    assert sum(child.cost_usd for child in parent.children) <= 0.1
    assert f"leaves no more for the other {8 - len(parent.children)} job(s)" in parent.reason
    assert "the best is" in parent.reason
    (mail,) = house.mails
    assert "not started" in mail.body


def test_three_failures_at_the_beginning_spare_the_rest(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    for _ in range(12):
        for name in at_work(house):
            if house.named(name).attempts:
                house.fail(FailureCode.DATA_INVALID, "row 7 is no chat", job=house.named(name))
        house.tick()
    parent = house.named("many")
    assert parent.state is JobState.FAILED
    assert len(parent.children) == 3
    assert parent.reason.endswith("the other 1 were not started; the last: row 7 is no chat")


def test_a_sweep_put_again_while_it_runs_is_refused_beside_it(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    house.put("jobs/many.yaml", name="many", sweep={"grid": {"training.seed": [1, 2]}})
    assert house.named("many").state is JobState.RUNNING
    assert house.status("many", refused=True) is not None


def test_the_same_event_five_times_makes_the_same_jobs(house: House) -> None:
    put(house, sweep={"concurrency": 2})
    for _ in range(5):
        house.touch("jobs/many.yaml")
    assert len(children(house)) == 2
    assert len(house.ec2.fleet_requests) == 2


@pytest.mark.parametrize("fault", [crash_before, crash_after])
@pytest.mark.parametrize("skip", range(0, 14, 3))
def test_a_death_at_any_write_doubles_no_job_and_loses_none(house: House, fault: Any, skip: int) -> None:
    house.faults.once("dynamodb.transact_write_items", fault, skip=skip)
    try:
        put(house, sweep={"concurrency": 2})
    except Crash:
        house.forget()
    for _ in range(24):
        try:
            for name in at_work(house):
                if house.named(name).attempts:
                    house.finish(job=house.named(name))
            house.tick()
        except Crash:
            house.forget()
    parent = house.named("many")
    assert (parent.state, parent.settled) == (JobState.SUCCEEDED, True)
    assert sorted(job.name for job in children(house)) == [f"many-00{n}" for n in (1, 2, 3, 4)]
    assert len(house.mails) == 1


def test_two_drivers_of_one_sweep_create_each_job_once(house: House) -> None:
    house.leave("jobs/many.yaml", name="many", sweep={"grid": {"training.learning_rate": RATES}, "concurrency": 2})
    house.faults.once("dynamodb.transact_write_items", meanwhile(lambda: house.touch("jobs/many.yaml")), skip=1)
    house.touch("jobs/many.yaml")
    for _ in range(3):
        house.tick()
    assert len(children(house)) == 2
    assert len(house.live()) == 2


def test_a_job_may_follow_the_best_of_a_sweep(house: House) -> None:
    put(house, sweep={"concurrency": 4})
    house.put("jobs/next.yaml", name="next", after="many")
    to_the_end(house, {"many-002": 0.1})
    follows = house.named("next").follows
    assert follows is not None
    assert follows.start is not None
    assert follows.start.job_id == house.named("many-002").job_id


def test_the_metrics_count_jobs_and_no_sweep(house: House) -> None:
    put(house, sweep={"concurrency": 2})
    counts = house.tick()
    assert counts["JobsStarting"] + counts["JobsRunning"] == 2
    to_the_end(house, {})
    assert house.counts["JobsSucceeded"] == 4


def withdraw(house: House, name: str, *, told: bool = True) -> None:
    """With the id that the sweep's own status tells, started or not."""
    status = house.status("many")
    assert status is not None
    assert status.sweep is not None
    (job_id,) = [job.job_id for job in status.sweep.jobs if job.name == name]
    assert job_id is not None
    key = keys.cancel_key(job_id)
    house.s3.write(DATA, key, b"")
    if told:
        house.touch(key)


@pytest.mark.parametrize("told", [True, False])
def test_one_job_is_cancelled_by_itself_and_the_next_takes_its_place(house: House, told: bool) -> None:
    put(house, sweep={"concurrency": 2}, limits={"budget_usd": 5})
    withdraw(house, "many-002", told=told)
    house.tick()
    house.tick()
    one = house.named("many-002")
    assert (one.state, one.reason) == (JobState.CANCELLED, "it was cancelled by itself, and no other job with it")
    assert at_work(house) == ["many-001", "many-003"]
    assert len(house.live()) == 2


def test_the_table_of_the_sweep_says_what_became_of_a_job_that_was_cancelled_by_itself(house: House) -> None:
    put(house, sweep={"concurrency": 4})
    withdraw(house, "many-003")
    to_the_end(house, {"many-001": 0.5})
    parent, status = house.named("many"), house.status("many")
    assert (parent.state, parent.reason) == (JobState.SUCCEEDED, "3 of 4 jobs succeeded; the best is many-001: eval_loss 0.5")
    assert status is not None
    assert status.sweep is not None
    assert [job.state for job in status.sweep.jobs] == ["SUCCEEDED", "SUCCEEDED", "CANCELLED", "SUCCEEDED"]
    assert status.sweep.jobs[2].reason == "it was cancelled by itself, and no other job with it"


def test_the_status_tells_the_id_of_a_job_before_it_is_started(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    status = house.status("many")
    assert status is not None
    assert status.sweep is not None
    assert [job.state for job in status.sweep.jobs] == ["LAUNCHED", None, None, None]
    foretold = {job.name: job.job_id for job in status.sweep.jobs}
    to_the_end(house, {})
    assert foretold == {job.name: job.job_id for job in children(house)}


@pytest.mark.parametrize("told", [True, False])
def test_a_job_that_is_cancelled_before_it_is_started_never_is(house: House, told: bool) -> None:
    put(house, sweep={"concurrency": 2})
    withdraw(house, "many-003", told=told)
    to_the_end(house, {"many-004": 0.5})
    assert sorted(job.name for job in children(house)) == ["many-001", "many-002", "many-004"]
    assert house.named("many").reason == "3 of 4 jobs succeeded; the best is many-004: eval_loss 0.5"
    status = house.status("many")
    assert status is not None
    assert status.sweep is not None
    assert [job.state for job in status.sweep.jobs] == ["SUCCEEDED", "SUCCEEDED", "CANCELLED", "SUCCEEDED"]
    assert (status.sweep.jobs[2].reason, status.sweep.jobs[2].cost_usd) == ("it was cancelled before it was started", 0.0)
    assert len(house.mails) == 1


def test_the_table_says_at_once_that_a_job_is_not_going_to_be_started(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    withdraw(house, "many-004")
    status = house.status("many")
    assert status is not None
    assert status.sweep is not None
    assert [job.state for job in status.sweep.jobs][1:] == [None, None, "CANCELLED"]


def test_what_is_left_of_a_sweep_may_be_cancelled_job_by_job(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    for name in ("many-004", "many-002", "many-003"):
        withdraw(house, name)
    complete(house, "many-001")
    house.tick()
    parent = house.named("many")
    assert (parent.state, parent.reason) == (JobState.SUCCEEDED, "1 of 4 jobs succeeded; the best is many-001: eval_loss 1.5")
    assert len(children(house)) == 1


def test_a_word_against_a_job_in_the_very_moment_of_its_start_ends_it(house: House) -> None:
    """The sweep looked, nobody had cancelled the job, and then somebody does while it is created."""
    put(house, sweep={"concurrency": 1})
    house.finish(job=house.named("many-001"), results=Results(steps=100, eval_loss_after=1.0))
    house.faults.once("dynamodb.transact_write_items", meanwhile(lambda: withdraw(house, "many-002")), skip=4)
    for _ in range(4):
        house.tick()
    started = {job.name: job for job in children(house)}
    assert "many-002" not in started or started["many-002"].state is JobState.CANCELLED
    assert at_work(house) == ["many-003"]
    assert len(house.live()) == 1


def test_no_job_is_started_while_it_cannot_be_read_whether_it_was_cancelled(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    withdraw(house, "many-002", told=False)

    def gate(operation: str, subject: str, effect: Any) -> Any:
        if operation == "s3.head_object" and "many-002" in subject:
            raise ConnectionError("S3 does not answer")
        return effect()

    house.account.gate, gate_before = gate, house.account.gate
    complete(house, "many-001")
    for _ in range(3):
        house.tick()
    assert [job.name for job in children(house)] == ["many-001"]
    house.account.gate = gate_before
    house.tick()
    assert at_work(house) == ["many-003"]


def test_three_jobs_that_fail_spare_the_rest_though_another_was_cancelled(house: House) -> None:
    put(house, sweep={"grid": {"training.learning_rate": [*RATES, 2e-4]}, "concurrency": 1})
    withdraw(house, "many-005")
    for _ in range(12):
        for name in at_work(house):
            if house.named(name).attempts:
                house.fail(FailureCode.DATA_INVALID, "row 7 is no chat", job=house.named(name))
        house.tick()
    parent = house.named("many")
    assert (parent.state, len(children(house))) == (JobState.FAILED, 3)
    assert parent.reason == "the first 3 jobs failed, so the other 1 were not started; the last: row 7 is no chat"


def test_what_is_said_against_a_job_that_is_over_or_unknown_changes_nothing(house: House) -> None:
    put(house, sweep={"concurrency": 1})
    complete(house, "many-001")
    withdraw(house, "many-001")
    assert house.named("many-001").state is JobState.SUCCEEDED
    house.s3.write(DATA, keys.cancel_key("nobody-0123456789"), b"")
    assert isinstance(house.touch(keys.cancel_key("nobody-0123456789")), Ignored)
    assert house.mails == []


def test_a_job_with_a_manifest_of_its_own_is_cancelled_by_its_deletion_only(house: House) -> None:
    house.put()
    house.s3.write(DATA, keys.cancel_key(house.job.job_id), b"")
    house.touch(keys.cancel_key(house.job.job_id))
    house.tick()
    assert not house.job.ended
