"""The control plane over an AWS in memory: the life of a job, from a manifest to its receipt."""

from collections import Counter
from typing import Any

import pytest

from control_plane.core.records import AttemptEnd, Market
from control_plane.core.state import JobState
from jobspec import keys, tags
from jobspec.heartbeat import Phase
from jobspec.marker import FailureCode
from jobspec.operator import Hold
from tests.driver.house import DATA, OUTPUTS, House


def test_a_manifest_becomes_an_instance_a_ticket_and_a_status_in_one_event(house: House) -> None:
    job = house.put()
    assert job.state is JobState.LAUNCHED
    assert len(house.live()) == 1
    ticket = house.ticket()
    assert ticket is not None
    assert (ticket.job_id, ticket.attempt, ticket.earlier_writers, ticket.handovers) == (job.job_id, 1, (), ())
    assert (ticket.market, ticket.launched_at) == ("spot", house.attempt.launched_at)
    status = house.status()
    assert status is not None
    assert status.state == "LAUNCHED"


def test_every_instance_is_born_with_its_tags(house: House) -> None:
    house.put()
    (instance,) = house.ec2.instances.values()
    assert all(instance.tags.get(name) for name in tags.REQUIRED)
    assert tags.deadline_of(instance.tags) == house.attempt.plan.deadline_at


def test_one_job_the_whole_way_through_an_interruption(house: House) -> None:
    house.put()
    house.beat(step=10)
    house.tick()
    first = house.attempt
    house.warn(first)
    assert len(house.live()) == 2, "the hand-over: the old one saves while the new one starts"
    ticket = house.ticket()
    assert ticket is not None
    assert ticket.earlier_writers == (first.writer,)
    assert [handover.writer for handover in ticket.handovers] == [first.writer]
    house.beat(step=25, phase=Phase.HANDED_OVER, attempt=first)
    house.reclaim(first)
    house.beat(step=25)
    house.tick()
    replaced = house.job
    assert replaced.state is JobState.RUNNING
    assert house.live() == [house.attempt.instance_id]
    house.finish()
    house.tick()
    house.tick()
    assert house.job.state is JobState.SUCCEEDED
    assert house.job.settled
    assert house.live() == []
    (letter,) = house.mails
    assert "finished" in letter.subject
    assert keys.final_prefix(house.job.job_id, house.attempt.writer) in letter.body
    assert "interrupted (by ec2)" in letter.body
    status = house.status()
    assert status is not None
    assert status.receipt is not None
    assert status.attempts[0].cost_usd == 0, "EC2 took it in its first hour"
    assert status.receipt.saved_usd > 0


def test_a_finished_job_is_never_driven_again(house: House) -> None:
    house.put()
    house.finish()
    house.tick()
    house.tick()
    writes, letters = house.job_writes, len(house.mails)
    house.tick()
    house.touch()
    house.warn(house.attempt)
    assert (house.job_writes, len(house.mails)) == (writes, letters)


def test_the_same_event_twice_makes_one_job_and_one_instance(house: House) -> None:
    house.put()
    house.touch()
    house.touch()
    assert len(house.jobs) == 1
    assert len(house.live()) == 1


def test_no_capacity_in_any_pool_waits_and_then_starts(house: House) -> None:
    house.close_spot("g5.xlarge", "g6.xlarge")
    house.put()
    assert house.job.state is JobState.WAITING
    status = house.status()
    assert status is not None
    assert "InsufficientInstanceCapacity" in status.reason
    house.tick()
    assert house.live() == []
    house.ec2.capacity = {}
    house.tick(600)
    assert len(house.live()) == 1


def test_cheapest_takes_on_demand_in_the_same_event(house: House) -> None:
    house.close_spot("g5.xlarge", "g6.xlarge")
    house.put(compute={"instance_types": ["g5.xlarge", "g6.xlarge"], "market": "cheapest"})
    assert house.attempt.market is Market.ON_DEMAND


def test_a_quota_names_the_remedy(house: House) -> None:
    house.ec2.quota_vcpus["spot"] = 0
    house.put()
    (letter,) = house.mails
    assert "request-service-quota-increase" in letter.body
    assert "MaxSpotInstanceCountExceeded" in letter.body


@pytest.mark.parametrize("body", [b"", b"\x00\x01", b"{", b"name: [", b"name: broken\nname: broken\n", b"x" * 70_000, b"&a [*a]", "näme: x".encode("utf-16")])
def test_a_bad_manifest_is_rejected_with_one_e_mail_and_a_status(house: House, body: bytes) -> None:
    job = house.put("jobs/broken.yaml", body)
    house.touch("jobs/broken.yaml")
    assert job.state is JobState.REJECTED
    assert job.settled
    assert len(house.mails) == 1
    status = house.status("broken")
    assert status is not None
    assert status.problems
    assert house.live() == []


def test_a_rejected_manifest_says_every_problem_with_its_path(house: House) -> None:
    house.put(training={"learning_rat": 1, "epochs": -1}, limits={"max_runtime": "soon"})
    body = house.mails[0].body
    assert "training.learning_rat" in body
    assert "learning_rate" in body
    assert "training.epochs" in body
    assert "limits.max_runtime" in body


def test_a_manifest_put_over_an_active_job_is_refused_and_the_job_untouched(house: House) -> None:
    house.put()
    before, status = house.job, house.status()
    refused = house.put(training={"epochs": 2})
    assert refused.state is JobState.REJECTED
    assert house.job == before
    assert house.status() == status
    beside = house.status(refused=True)
    assert beside is not None
    assert beside.problems[0].path in ("key", "name")
    assert len(house.live()) == 1


def test_garbage_put_over_an_active_job_leaves_its_status_alone(house: House) -> None:
    house.put()
    status = house.status()
    house.put(body=b"\x00")
    assert house.status() == status
    beside = house.status(refused=True)
    assert beside is not None
    assert beside.page is None, "the page of that name is the active job's"


def test_another_key_with_an_active_jobs_name_is_refused(house: House) -> None:
    house.put()
    assert house.put("jobs/other.yaml").state is JobState.REJECTED
    assert len(house.live()) == 1


def test_after_its_end_the_same_manifest_is_a_new_job(house: House) -> None:
    first = house.put()
    house.finish()
    house.tick()
    house.tick()
    second = house.put()
    assert second.job_id != first.job_id
    assert second.state is JobState.LAUNCHED
    status = house.status()
    assert status is not None
    assert status.job_id == second.job_id


def test_a_deleted_manifest_cancels_the_job(house: House) -> None:
    house.put()
    house.delete()
    assert house.job.state is JobState.CANCELLED
    assert house.live() == []


def test_a_manifest_deleted_before_its_event_came_starts_nothing(house: House) -> None:
    house.s3.write(DATA, "jobs/tale.yaml", b"name: tale")
    house.delete()
    assert house.jobs == []


def test_a_deadline_in_the_past_and_a_foreign_zone_are_refused_at_once(house: House) -> None:
    house.put(limits={"deadline": "2026-10-01T00:00:00Z"}, compute={"instance_types": ["g5.xlarge"], "zones": ["eu-west-1a"]})
    body = house.mails[0].body
    assert "limits.deadline" in body
    assert "us-east-1a" in body


def test_a_marker_from_another_instance_changes_nothing(house: House) -> None:
    house.put()
    forged = house.attempt.model_copy(update={"instance_id": "i-0dead0dead0dead00"})
    house.finish(forged)
    house.tick()
    assert house.job.state is JobState.LAUNCHED


@pytest.mark.parametrize("changes", [{"attempt": 7}, {"job_id": "other-0123456789"}, {"instance_id": "i-0dead0dead0dead00"}])
def test_a_marker_that_speaks_of_another_attempt_changes_nothing(house: House, changes: dict[str, Any]) -> None:
    house.put()
    house.finish(**changes)
    house.tick()
    assert house.job.state is JobState.LAUNCHED


def test_a_marker_whose_files_are_not_there_is_no_success(house: House) -> None:
    house.put()
    house.finish()
    prefix = keys.run_prefix(house.job.job_id, house.attempt.writer)
    house.s3.write(OUTPUTS, prefix + "final/adapter_model.safetensors", b"WEIGHTS")
    house.tick()
    assert house.job.state is JobState.LAUNCHED, "same size, other content"
    house.s3.remove(OUTPUTS, prefix + "final/adapter_model.safetensors")
    house.tick()
    assert house.job.state is JobState.LAUNCHED


def test_a_new_manifest_is_put_on_record_by_one_call_and_priced_by_one(house: House) -> None:
    """Nothing of its id, name or key is there: that is the write's condition, and no question of its own. Its instance's price was read to place it."""
    heard: list[tuple[str, str]] = []
    gate = house.account.gate

    def listening(operation: str, subject: str, effect: Any) -> Any:
        heard.append((operation, subject.partition("#")[0]))
        return gate(operation, subject, effect)

    house.account.gate = listening
    house.put()
    assert house.attempt.usd_per_h < house.attempt.on_demand_usd_per_h
    asked = Counter(heard)
    assert asked["dynamodb.get_item", "JOB"] == asked["dynamodb.get_item", "NAME"] == asked["dynamodb.get_item", "KEY"] == 0
    assert sum(count for (operation, _), count in asked.items() if operation == "ec2.describe_spot_price_history") == 1


def test_offers_and_holds_are_not_asked_for_while_a_spot_instance_works(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    assert house.job.state is JobState.RUNNING
    assert house.rooms.driver.watcher.look(house.job, house.now).offers is None
    house.reclaim(house.attempt)
    assert house.rooms.driver.watcher.look(house.job, house.now).offers is not None, "it is gone"


def test_a_job_interrupted_twice_in_a_minute_waits_for_both_that_may_still_save(house: House) -> None:
    house.put()
    house.beat(step=10)
    house.tick()
    first = house.attempt
    house.warn(first)
    second = house.attempt
    house.warn(second)
    ticket = house.ticket()
    assert ticket is not None
    assert ticket.attempt == 3
    assert [handover.writer for handover in ticket.handovers] == [second.writer, first.writer]


def test_a_malformed_marker_ends_its_attempt_and_the_job_goes_on(house: House) -> None:
    house.put()
    first = house.attempt.instance_id
    house.mark(house.attempt, b'{"version": 1')
    house.tick()
    house.tick()
    assert [attempt.end for attempt in house.job.attempts] == [AttemptEnd.FAILED, None]
    assert "agent_error" in house.job.attempts[0].end_reason
    assert house.live() == [house.attempt.instance_id] != [first]


def test_another_jobs_marker_ends_its_attempt_too(house: House) -> None:
    house.put()
    house.finish(job_id="somebody-else")
    house.tick()
    assert house.job.state is not JobState.SUCCEEDED
    assert "it speaks of somebody-else" in house.job.attempts[0].end_reason


def test_missing_data_fails_the_job_with_the_agents_sentence(house: House) -> None:
    house.put()
    house.fail(FailureCode.DATA_MISSING, "s3://data-bucket/data/train.jsonl is not there")
    house.tick()
    assert house.job.state is JobState.FAILED
    assert "data/train.jsonl is not there" in house.mails[0].body
    assert house.live() == []


def test_a_hold_keeps_new_jobs_waiting_and_running_ones_running(house: House) -> None:
    house.put()
    house.rooms.holds.put(Hold(reason="the month's money is spent", since=house.now))
    house.put("jobs/second.yaml", name="second")
    second = house.status("second")
    assert second is not None
    assert second.state == "WAITING"
    assert len(house.live()) == 1
    house.rooms.holds.put(Hold(reason="resumed", since=house.now, until=house.now))
    house.tick()
    assert len(house.live()) == 2


def test_money_near_its_end_is_told_through_the_bus_once(house: House) -> None:
    house.put(notify={"on": ["budget"]}, limits={"budget_usd": 0.3})
    rate = house.attempt.usd_per_h
    hours = 0.85 * 0.3 / rate
    for _ in range(int(hours * 3600 / 240)):
        house.beat()
        house.tick(240)
    event = house.budget_events()[0]
    assert (event["detail-type"], event["detail"]["origin"], event["detail"]["job_id"]) == ("Budget Alert", "ledger", house.job.job_id)
    house.deliver_budget_event()
    assert len(house.mails) == 1
    told = len(house.budget_events())
    house.beat()
    house.tick()
    assert len(house.budget_events()) == told


def test_the_cap_asks_for_a_last_save_and_then_stops(house: House) -> None:
    house.put(limits={"budget_usd": 0.3})
    for _ in range(70):
        house.beat()
        house.tick()
        if house.stop_order() is not None:
            break
    order = house.stop_order()
    assert order is not None
    assert "budget_usd" in order.reason
    house.tick(121)
    house.tick()
    assert house.job.state is JobState.STOPPED_BUDGET
    status = house.status()
    assert status is not None
    assert status.receipt is not None
    assert status.receipt.cost_usd <= 0.3
