"""What no job names, what outlived its deadline, and what no event told: the sweep, the curfew and the census."""

from typing import Any

import pytest

from control_plane.core.state import JobState
from control_plane.handlers.curfew import NotEnded
from control_plane.handlers.reconcile import TickFailed
from jobspec import tags
from tests.driver.faults import lost, refused
from tests.driver.house import DATA, House
from tests.simulation.aws.ec2 import Instance


def place(house: House, number: int, own_tags: dict[str, str]) -> str:
    """An instance that no launch of ours has started."""
    instance_id = f"i-{number:017x}"
    house.ec2.place(Instance(instance_id, "g5.xlarge", "us-east-1a", "spot", dict(own_tags), house.now, 0.4, "1"))
    return instance_id


def tags_of(house: House, **changes: str) -> dict[str, str]:
    return {**house.ec2.instances[house.attempt.instance_id].tags, **changes}


def marked(house: House, instance_id: str) -> bool:
    return tags.STRAY_SINCE in house.ec2.instances[instance_id].tags


def test_a_stray_is_marked_after_its_grace_and_ended_by_the_next_tick_and_a_foreign_instance_never(house: House) -> None:
    house.put()
    ours = house.attempt.instance_id
    stray = place(house, 0xAAAA, tags_of(house, **{tags.JOB: "nobody-0123456789"}))
    doubled = place(house, 0xBBBB, tags_of(house, **{tags.LAUNCH: "df-other"}))
    foreign = place(house, 0xCCCC, {"Name": "someone's"})
    house.beat()
    assert house.tick(240)["StraysEnded"] == 0
    assert not marked(house, stray)
    house.beat()
    assert house.tick(70)["StraysEnded"] == 0, "the first look marks"
    assert [marked(house, one) for one in (stray, doubled, ours, foreign)] == [True, True, False, False]
    assert len(house.live()) == 4
    house.beat()
    assert house.tick()["StraysEnded"] == 2
    assert set(house.live()) == {ours, foreign}


def test_two_looks_in_one_minute_are_one_look(house: House) -> None:
    """Two ticks may run at the same time: EventBridge delivers at least once."""
    house.put()
    stray = place(house, 0xAAAA, tags_of(house, **{tags.JOB: "nobody-0123456789"}))
    house.beat()
    house.tick(310)
    house.tick(5)
    assert stray in house.live()
    house.tick(50)
    assert stray not in house.live()


def test_a_marked_instance_that_its_job_names_after_all_is_left_alone(house: House) -> None:
    house.put()
    ours = house.attempt.instance_id
    house.ec2.instances[ours].tags[tags.STRAY_SINCE] = "1"
    house.beat()
    assert house.tick(400)["StraysEnded"] == 0
    assert ours in house.live()


def test_the_mark_of_an_instance_that_its_job_names_is_taken_off_so_that_it_is_no_first_look_of_tomorrow(house: House) -> None:
    house.put()
    ours = house.attempt.instance_id
    house.ec2.instances[ours].tags[tags.STRAY_SINCE] = "1"
    house.beat()
    house.tick(240)
    assert house.ec2.instances[ours].tags[tags.STRAY_SINCE] == "1", "too young for the sweep to judge"
    house.beat()
    house.tick(70)
    assert tags.stray_since(house.ec2.instances[ours].tags) is None
    house.faults.down(refused("RequestLimitExceeded"), "ec2.create_tags")
    house.beat()
    assert house.tick()["StraysEnded"] == 0, "once is enough: nothing is asked of EC2 again"


def test_a_mark_that_could_not_be_set_ends_nothing_and_is_tried_again(house: House) -> None:
    house.put()
    stray = place(house, 0xAAAA, tags_of(house, **{tags.JOB: "nobody-0123456789"}))
    house.faults.down(refused("RequestLimitExceeded"), "ec2.create_tags")
    house.beat()
    for seconds in (310, 60):
        with pytest.raises(TickFailed, match=f"{stray}: Throttled"):
            house.tick(seconds)
        house.beat()
    assert stray in house.live()
    house.faults.mend()
    house.tick()
    house.tick()
    assert stray not in house.live()


def test_an_unreadable_job_does_not_keep_the_strays_of_others_alive(house: House) -> None:
    house.put()
    stray = place(house, 0xAAAA, tags_of(house, **{tags.JOB: "nobody-0123456789"}))
    house.account.dynamodb.items[f"JOB#{house.job.job_id}"]["body"] = {"S": "{}"}
    for seconds in (310, 60):
        with pytest.raises(TickFailed):
            house.tick(seconds)
    assert stray not in house.live()
    assert len(house.live()) == 1, "of whom nothing is known, nothing is ended"


def test_an_instance_past_its_deadline_is_swept_even_if_its_job_is_lost(house: House) -> None:
    house.put(limits={"max_runtime": "2m"})
    (instance_id,) = house.live()
    del house.account.dynamodb.items[f"JOB#{house.job.job_id}"]
    for _ in range(4):
        house.tick()
    assert instance_id not in house.live()


def test_the_curfew_ends_what_is_overdue_though_tick_table_and_bucket_are_dead(house: House) -> None:
    house.put(limits={"max_runtime": "1h"})
    foreign = place(house, 0xCCCC, {tags.DEADLINE: "1"})
    house.faults.down(lost(effect=False), "dynamodb", "s3", "sns", "events")
    house.wait(3600 + 119)
    assert house.curfew() == 0, "its own timer has the first word"
    house.wait(1)
    assert house.curfew() == 1
    assert house.live() == [foreign]
    assert house.curfew() == 0


def test_an_instance_that_cannot_be_ended_does_not_save_the_next(house: House) -> None:
    house.put(limits={"max_runtime": "1h"})
    first = house.attempt.instance_id
    second = place(house, 0xAAAA, tags_of(house))
    house.wait(3600 + 120)
    house.faults.once("ec2.terminate_instances", refused("RequestLimitExceeded"), about=first)
    with pytest.raises(NotEnded, match=f"{first}: Throttled"):
        house.curfew()
    assert house.live() == [first]
    assert house.curfew() == 1
    assert house.live() == []
    assert second not in house.live()


def to_the_quarter(house: House) -> dict[str, Any]:
    """Ticks up to the next quarter of an hour; that tick's counts."""
    while True:
        counts = house.tick()
        if house.now.minute % 15 == 0:
            return counts


def test_a_manifest_whose_event_was_lost_is_taken_up_within_a_quarter_of_an_hour(house: House) -> None:
    house.leave()
    house.tick()
    assert house.jobs == []
    assert to_the_quarter(house)["ManifestsFound"] == 1
    assert house.job.state is JobState.LAUNCHED
    house.beat()
    assert to_the_quarter(house)["ManifestsFound"] == 0


def test_a_manifest_put_in_the_very_second_in_which_the_one_before_was_accepted_is_not_taken_for_that_one(house: House) -> None:
    """S3 tells whole seconds: the later one seems to be older than the job."""
    house.wait(0.2)
    house.put()
    first = house.job
    house.wait(0.3)
    house.leave(training={"epochs": 2})
    house.finish()
    house.tick()
    to_the_quarter(house)
    assert len({job.manifest_ref.version_id for job in house.jobs} - {first.manifest_ref.version_id}) == 1


def test_the_census_reads_every_page_and_one_failure_does_not_hide_the_next(house: House) -> None:
    for n in range(7):
        house.leave(f"jobs/n{n}.yaml", name=f"n{n}")
    house.wait(14 * 60)
    house.faults.once("s3.get_object", lost(effect=False), about="jobs/n2.yaml")
    with pytest.raises(TickFailed, match=r"jobs/n2\.yaml: ReadTimeoutError"):
        house.tick()
    assert [job.name for job in house.jobs] == ["n0", "n1", "n3", "n4", "n5", "n6"]
    to_the_quarter(house)
    assert len(house.jobs) == 7


def test_a_version_that_was_put_after_the_jobs_end_is_taken_up_too(house: House) -> None:
    first = house.put()
    house.finish()
    house.tick()
    house.tick()
    house.leave(training={"epochs": 2})
    to_the_quarter(house)
    assert [job.job_id for job in house.jobs if job.job_id != first.job_id and job.state is JobState.LAUNCHED]


def test_a_manifest_from_long_ago_is_not_looked_at_again(house: House) -> None:
    house.leave()
    house.wait(7 * 3600)
    assert to_the_quarter(house)["ManifestsFound"] == 0


@pytest.mark.parametrize("key", ["jobs/", "jobs/folder/"])
def test_what_is_no_manifest_is_not_found(house: House, key: str) -> None:
    house.s3.write(DATA, key, b"")
    assert to_the_quarter(house)["ManifestsFound"] == 0


def test_a_refused_manifest_is_found_once(house: House) -> None:
    house.leave("jobs/broken.yaml", b"\x00")
    assert to_the_quarter(house)["ManifestsFound"] == 1
    assert to_the_quarter(house)["ManifestsFound"] == 0
    assert len(house.mails) == 1
