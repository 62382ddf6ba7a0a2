"""Calls that fail, answers that never come, functions that die: what is owed is done once, and nothing twice."""

import pytest

from control_plane.core.state import JobState
from control_plane.driver import ActionsFailed
from control_plane.handlers.reconcile import TickFailed
from jobspec import keys
from tests.driver.faults import Crash, Fault, crash_after, crash_before, lost, refused
from tests.driver.house import House


def test_a_lost_answer_with_effect_makes_one_instance(house: House) -> None:
    house.faults.once("ec2.create_fleet", lost(effect=True))
    with pytest.raises(ActionsFailed):
        house.put()
    assert house.job.plan is not None, "the call is on record until its outcome is known"
    house.tick()
    assert house.job.state is JobState.LAUNCHED
    assert len(house.live()) == 1
    assert house.ticket() is not None


def test_a_lost_answer_with_effect_that_ec2_does_not_show_yet_makes_one_instance(house: House) -> None:
    house.ec2.hidden_for_s = lambda: 200
    house.faults.once("ec2.create_fleet", lost(effect=True))
    with pytest.raises(ActionsFailed):
        house.put()
    house.tick()
    (instance_id,) = house.live()
    assert house.attempt.instance_id == instance_id, "the same token gave the same answer"
    house.beat()
    house.tick(200)
    assert house.live() == [instance_id]


def test_a_lost_launch_call_without_effect_is_made_again(house: House) -> None:
    house.faults.once("ec2.create_fleet", lost(effect=False))
    with pytest.raises(ActionsFailed):
        house.put()
    assert house.live() == []
    house.tick()
    assert len(house.live()) == 1


@pytest.mark.parametrize("dies", [crash_before, crash_after])
def test_a_function_that_dies_at_its_launch_call_leaves_one_instance(house: House, dies: Fault) -> None:
    house.faults.once("ec2.create_fleet", dies)
    with pytest.raises(Crash):
        house.put()
    house.tick()
    assert house.job.state is JobState.LAUNCHED
    assert house.live() == [house.attempt.instance_id]


def test_a_throttled_launch_keeps_its_plan(house: House) -> None:
    house.faults.once("ec2.create_fleet", refused("RequestLimitExceeded"))
    house.put()
    assert house.counts["LaunchesThrottled"] == 1, "it waits for the tick, and is no error of the door's"
    token = house.job.plan.client_token if house.job.plan else ""
    house.tick()
    assert [request["ClientToken"] for request in house.ec2.fleet_requests] == [token, token]
    assert house.job.state is JobState.LAUNCHED


def test_a_refused_launch_ends_the_job_with_ec2s_words(house: House) -> None:
    house.faults.once("ec2.create_fleet", refused("UnauthorizedOperation"))
    house.put()
    assert house.job.state is JobState.FAILED
    assert "UnauthorizedOperation: AWS's words." in house.mails[0].body


def test_a_failed_terminate_is_made_again_by_the_tick(house: House) -> None:
    house.put()
    house.finish()
    house.faults.down(lost(effect=False), "ec2.terminate_instances")
    with pytest.raises(TickFailed, match="Terminate: OutcomeUnknown"):
        house.tick()
    assert len(house.live()) == 1
    assert house.mails == [], "the e-mail waits for the termination"
    house.faults.mend()
    house.tick()
    assert house.live() == []


def test_unreadable_heartbeats_and_a_deaf_ec2_decide_nothing(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    one = house.attempt
    house.faults.down(lost(effect=False), "s3.head_object")
    for key in (keys.heartbeat_key(house.job.job_id, one.writer), keys.marker_key(house.job.job_id, one.writer)):
        house.faults.down(lost(effect=False), "s3.get_object", about=key)
    house.ec2.instances[one.instance_id].hidden = True
    for _ in range(3):
        house.tick()
    assert house.job.state is JobState.RUNNING
    assert len(house.live()) == 1
    assert len(house.ec2.fleet_requests) == 1


def test_a_save_whose_answer_was_lost_is_found_by_the_next_look(house: House) -> None:
    """The write took effect, its caller never learnt it: the plan is on record, and its call is made by the next look."""
    house.leave()
    house.faults.once("dynamodb.transact_write_items", lost(effect=True), skip=1)
    with pytest.raises(Exception, match="Read timeout"):
        house.touch()
    assert house.faults.all_met
    assert house.job.state is JobState.PLANNED
    assert house.ec2.fleet_requests == []
    house.tick()
    assert len(house.live()) == 1


def test_while_the_table_is_throttled_nothing_is_launched_and_after_it_all_is(house: House) -> None:
    house.faults.down(refused("ThrottlingException"), "dynamodb")
    with pytest.raises(Exception, match="ThrottlingException"):
        house.put()
    with pytest.raises(Exception, match="ThrottlingException"):
        house.tick()
    assert house.live() == []
    house.faults.mend()
    house.touch()
    assert len(house.live()) == 1


def test_instances_behind_the_first_page_are_seen(house: House) -> None:
    """EC2 answers in pages of two here; a job whose instance stands on the third must not be taken for dead."""
    for n in range(5):
        house.put(f"jobs/n{n}.yaml", name=f"n{n}")
    for _ in range(8):
        for n in range(5):
            house.beat(job=house.named(f"n{n}"))
        house.tick()
    assert len(house.ec2.fleet_requests) == 5
    assert {job.state for job in house.jobs} == {JobState.RUNNING}
