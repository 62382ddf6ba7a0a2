"""No more jobs at a time than may run; who waits longest, or with priority, is next; nobody keeps a turn for nothing."""

from typing import Any

import pytest

from control_plane.core.state import Job, JobState, WaitKind
from jobspec.operator import Hold
from tests.driver.faults import lost, meanwhile
from tests.driver.house import House


@pytest.fixture
def house() -> House:
    return House(max_concurrent_jobs=1)


def put(house: House, name: str, **changes: Any) -> None:
    house.put(f"jobs/{name}.yaml", name=name, **changes)


def run(house: House, *names: str) -> None:
    """A minute in which these jobs' instances are alive."""
    for name in names:
        house.beat(job=house.named(name))
    house.tick()


def complete(house: House, name: str) -> None:
    house.finish(job=house.named(name))
    house.tick()
    house.tick()


def waits_for_its_turn(job: Job) -> bool:
    return job.state is JobState.WAITING and job.wait is not None and job.wait.kind is WaitKind.TURN and not job.attempts


def test_a_second_job_waits_for_its_turn_and_says_so(house: House) -> None:
    put(house, "one")
    put(house, "two")
    assert waits_for_its_turn(house.named("two"))
    assert len(house.live()) == 1
    status = house.status("two")
    assert status is not None
    assert "MaxConcurrentJobs" in status.reason
    for _ in range(5):
        run(house, "one")
    assert len(house.ec2.fleet_requests) == 1
    complete(house, "one")
    assert house.named("two").state is JobState.LAUNCHED
    assert len(house.live()) == 1


def test_those_who_wait_are_served_in_the_order_they_came(house: House) -> None:
    put(house, "first")
    for name in ("zebra", "middle", "apple"):
        house.wait(10)
        put(house, name)
    served = ["first"]
    for _ in range(3):
        complete(house, served[-1])
        (running,) = [job.name for job in house.jobs if job.state is JobState.LAUNCHED]
        served.append(running)
    assert served == ["first", "zebra", "middle", "apple"]


def test_priority_is_a_head_start(house: House) -> None:
    put(house, "first")
    for name, priority in (("low", "low"), ("normal", "normal"), ("high", "high")):
        house.wait(10)
        put(house, name, priority=priority)
    complete(house, "first")
    assert house.named("high").state is JobState.LAUNCHED
    complete(house, "high")
    assert house.named("normal").state is JobState.LAUNCHED
    complete(house, "normal")
    assert house.named("low").state is JobState.LAUNCHED


def test_a_head_start_does_not_overtake_who_waited_longer_than_it(house: House) -> None:
    put(house, "first")
    put(house, "patient")
    for _ in range(6 * 12 + 1):
        house.beat(job=house.named("first"))
        house.tick(280)
        house.beat(job=house.named("first"))
        house.tick(20)
    put(house, "urgent", priority="high")
    complete(house, "first")
    assert house.named("patient").state is JobState.LAUNCHED
    assert waits_for_its_turn(house.named("urgent"))


def test_who_waits_for_capacity_gives_its_turn_back(house: House) -> None:
    house.close_spot("g5.xlarge")
    put(house, "starved", compute={"instance_types": ["g5.xlarge"]})
    assert house.named("starved").state is JobState.WAITING
    put(house, "other", compute={"instance_types": ["g6.xlarge"]})
    assert house.named("other").state is JobState.LAUNCHED
    house.ec2.capacity = {}
    for _ in range(3):
        run(house, "other")
    assert waits_for_its_turn(house.named("starved")), "there is capacity again, but no turn"
    complete(house, "other")
    assert house.named("starved").state is JobState.LAUNCHED


def test_a_replacement_needs_no_second_turn(house: House) -> None:
    put(house, "one")
    put(house, "two")
    run(house, "one")
    house.warn(house.named("one").attempts[0])
    assert len(house.live()) == 2, "the warned one, and its replacement"
    house.reclaim(house.named("one").attempts[0])
    run(house, "one")
    assert waits_for_its_turn(house.named("two"))


def test_a_launch_that_may_have_happened_keeps_its_turn(house: House) -> None:
    house.faults.once("ec2.create_fleet", lost(effect=True))
    with pytest.raises(Exception, match="OutcomeUnknown"):
        put(house, "one")
    put(house, "two")
    assert waits_for_its_turn(house.named("two"))
    house.tick()
    assert len(house.live()) == 1


def test_who_comes_when_a_turn_is_free_does_not_overtake_those_who_wait(house: House) -> None:
    """An event drives the newcomer before the tick comes round to the first in line."""
    put(house, "one")
    house.wait(10)
    put(house, "patient")
    house.finish(job=house.named("one"))
    house.rooms.driver.drive(house.named("one").job_id)
    assert house.live() == []
    house.wait(10)
    put(house, "newcomer")
    assert waits_for_its_turn(house.named("newcomer"))
    house.tick()
    assert house.named("patient").state is JobState.LAUNCHED
    assert waits_for_its_turn(house.named("newcomer"))


def _two_held_jobs(house: House) -> None:
    house.rooms.holds.put(Hold(reason="paused", since=house.now))
    put(house, "one")
    put(house, "two")
    house.rooms.holds.put(Hold(reason="resumed", since=house.now, until=house.now))


@pytest.mark.parametrize("turns_were_taken_before", [False, True])
@pytest.mark.parametrize(
    ("operation", "about", "skip"),
    [
        ("dynamodb.transact_write_items", "", 0),
        # Between the look's read of the turns and the save's own.
        ("dynamodb.get_item", "PROJECT#turns", 1),
    ],
)
def test_of_two_that_see_the_last_turn_free_one_gets_it(house: House, operation: str, about: str, skip: int, turns_were_taken_before: bool) -> None:
    if turns_were_taken_before:
        put(house, "zero")
        complete(house, "zero")
    _two_held_jobs(house)
    one, two = house.named("one").job_id, house.named("two").job_id
    house.wait(120)
    house.faults.once(operation, meanwhile(lambda: house.rooms.driver.drive(two)), about=about, skip=skip)
    house.rooms.driver.drive(one)
    assert house.faults.all_met
    assert house.named("two").state is JobState.LAUNCHED
    assert waits_for_its_turn(house.named("one"))
    assert len(house.live()) == 1
    complete(house, "two")
    assert house.named("one").state is JobState.LAUNCHED


def test_a_late_hint_for_a_job_that_lost_its_turn_meanwhile_is_harmless(house: House) -> None:
    """Its function has read the job as running; before it saves, the instance is gone and another job has the turn."""
    put(house, "one", compute={"instance_types": ["g5.xlarge"]})
    put(house, "two", compute={"instance_types": ["g6.xlarge"]})
    run(house, "one")
    attempt = house.named("one").attempts[0]

    def lose_the_turn() -> None:
        house.close_spot("g5.xlarge")
        house.reclaim(attempt)
        house.tick()
        house.tick()
        assert house.named("two").state is JobState.LAUNCHED

    house.faults.once("dynamodb.transact_write_items", meanwhile(lose_the_turn), about=f"JOB#{house.named('one').job_id}")
    house.warn(attempt)
    assert house.faults.all_met
    assert len(house.live()) == 1


def test_the_turns_of_ended_jobs_come_back_when_their_instances_are_gone(house: House) -> None:
    put(house, "one")
    put(house, "two")
    house.faults.down(lost(effect=False), "ec2.terminate_instances")
    with pytest.raises(Exception, match="Terminate"):
        house.delete("jobs/one.yaml")
    assert house.named("one").state is JobState.CANCELLED
    with pytest.raises(Exception, match="Terminate"):
        house.tick()
    assert waits_for_its_turn(house.named("two")), "the ended job's instance is still there"
    house.faults.mend()
    house.tick()
    house.tick()
    assert house.named("two").state is JobState.LAUNCHED


def test_as_many_run_as_may(house: House) -> None:
    house = House(max_concurrent_jobs=3)
    for n in range(6):
        put(house, f"n{n}")
    assert len(house.live()) == 3
    assert [waits_for_its_turn(house.named(f"n{n}")) for n in range(6)] == [False] * 3 + [True] * 3
