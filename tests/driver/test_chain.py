"""A job that follows another, behind the real doors: found by name, kept by id, started from what the other one made."""

from typing import Any

from control_plane.core.state import Job, JobState
from jobspec import keys
from tests.driver.house import House


def put(house: House, name: str, **changes: Any) -> Job:
    house.put(f"jobs/{name}.yaml", name=name, **changes)
    return house.named(name)


def complete(house: House, name: str) -> None:
    house.finish(job=house.named(name))
    house.tick()


def test_a_chain_of_three_runs_one_after_the_other_each_from_the_one_before(house: House) -> None:
    put(house, "third", after="second")
    put(house, "second", after={"job": "first"})
    put(house, "first")
    for name, before in (("first", None), ("second", "first"), ("third", "second")):
        house.tick()
        assert [job.name for job in house.jobs if job.state in (JobState.LAUNCHED, JobState.RUNNING)] == [name]
        ticket = house.ticket(house.named(name).attempts[-1])
        assert ticket is not None
        if before is None:
            assert ticket.start is None
        else:
            source = house.named(before)
            assert ticket.start is not None
            assert ticket.start.prefix == keys.final_prefix(source.job_id, source.attempts[-1].writer)
        complete(house, name)
    assert {job.state for job in house.jobs} == {JobState.SUCCEEDED}


def test_a_job_that_waits_for_another_takes_no_turn() -> None:
    house = House(max_concurrent_jobs=1)
    put(house, "later", after="first", priority="high")
    put(house, "other")
    assert house.named("other").state is JobState.LAUNCHED


def test_a_failure_goes_down_the_chain_with_its_reason(house: House) -> None:
    put(house, "first")
    put(house, "second", after="first")
    put(house, "third", after="second")
    house.delete("jobs/first.yaml")
    house.tick()
    house.tick()
    assert house.named("second").reason.endswith("ended as CANCELLED: the manifest was deleted")
    assert house.named("third").state is JobState.FAILED
    mail = next(mail for mail in house.mails if mail.subject.startswith("[Dropforge] second failed"))
    assert "ended as CANCELLED" in mail.body


def calls_of_a_drive(house: House, name: str) -> list[tuple[str, str]]:
    """Operation and subject of each call that one drive of the job makes."""
    made: list[tuple[str, str]] = []

    def gate(operation: str, subject: str, effect: Any) -> Any:
        made.append((operation, subject))
        return effect()

    house.account.gate = gate
    house.rooms.driver.drive(house.named(name).job_id)
    house.account.gate = house.faults
    return made


def test_while_it_waits_a_look_reads_the_other_and_asks_ec2_for_nothing(house: House) -> None:
    put(house, "first")
    put(house, "second", after="first")
    calls = calls_of_a_drive(house, "second")
    assert not [operation for operation, _ in calls if operation.startswith("ec2.")]
    assert f"JOB#{house.named('first').job_id}" in {subject for _, subject in calls}


def test_an_ordinary_job_reads_no_other(house: House) -> None:
    put(house, "first")
    assert not [subject for _, subject in calls_of_a_drive(house, "first") if subject.startswith("NAME#")]
