"""A tick over many jobs: side by side, nobody left out for ever, and nothing written for those who only wait."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Lock
from time import sleep
from types import SimpleNamespace
from typing import Any

from control_plane.adapters.clients import AT_ONCE
from control_plane.handlers import door, reconcile
from control_plane.tick import LAUNCHES_FOR_S, ROUND
from jobspec.operator import Hold
from tests.driver.house import CONTEXT, House, LaunchBucket


def house_of(jobs: int, running: int) -> House:
    house = House(max_concurrent_jobs=running)
    for number in range(jobs):
        house.put(f"jobs/n{number:02}.yaml", name=f"n{number:02}")
    for instance_id in house.live():
        house.ec2.change(instance_id, "running")
    return house


def beat(house: House) -> None:
    for job in house.jobs:
        if job.attempts:
            house.beat(job=job)


class Heard:
    """Counts the calls, each of which lasts a while, and says of which job each was."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def __call__(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        sleep(0.002)
        with self._lock:
            self.calls[operation, subject] += 1
            return effect()


def test_who_waits_for_a_turn_is_noted_once_and_not_written_again() -> None:
    house = house_of(3, running=1)
    beat(house)
    house.tick()
    versions = {job.name: job.version for job in house.jobs if not job.attempts}
    assert len(versions) == 2
    for _ in range(5):
        beat(house)
        house.tick()
    assert {job.name: job.version for job in house.jobs if not job.attempts} == versions


def test_jobs_side_by_side_come_out_as_one_after_the_other() -> None:
    house = house_of(130, running=130)
    house.account.gate = heard = Heard()
    house.rooms.each = door._each
    beat(house)
    counts = house.tick()
    assert (counts["JobsDriven"], counts["JobsLeft"], counts["JobsRunning"]) == (130, 0, 130)
    assert all(job.attempts[0].heartbeat is not None for job in house.jobs)
    reads = [count for (operation, subject), count in heard.calls.items() if operation == "dynamodb.get_item" and subject.startswith("JOB#")]
    assert reads == [1] * 130


def test_as_many_are_under_way_at_a_time_as_there_are_connections() -> None:
    together = Barrier(AT_ONCE, timeout=20)

    def work(number: int) -> int:
        together.wait()
        return 2 * number

    assert list(door._each(work, range(2 * AT_ONCE))) == [2 * number for number in range(2 * AT_ONCE)]


def test_where_a_tick_has_time_for_few_each_job_has_its_turn_within_a_round() -> None:
    jobs = 2 * ROUND
    house = house_of(jobs, running=jobs)
    beat(house)
    seen: Counter[str] = Counter()
    for _ in range(ROUND):
        house.wait(60)
        left = [3]

        def has_ms(left: list[int] = left) -> int:
            left[0] -= 1
            return 60_000 if left[0] >= 0 else 0

        house.account.gate = heard = Heard()
        reconcile.handle({}, SimpleNamespace(get_remaining_time_in_millis=has_ms), house.rooms)
        seen += Counter({subject for operation, subject in heard.calls if operation == "s3.head_object"})
    assert len(seen) == jobs


def test_where_a_tick_has_time_for_few_those_that_cost_money_are_in_each_and_those_that_wait_in_turn() -> None:
    """A limit is never looked at late because thousands wait."""
    house = house_of(2 * ROUND + 3, running=3)
    waited: Counter[str] = Counter()
    for _ in range(ROUND):
        house.wait(60)
        beat(house)
        left = [5]

        def has_ms(left: list[int] = left) -> int:
            left[0] -= 1
            return 60_000 if left[0] >= 0 else 0

        house.account.gate = heard = Heard()
        reconcile.handle({}, SimpleNamespace(get_remaining_time_in_millis=has_ms), house.rooms)
        looked_at = {subject for operation, subject in heard.calls if operation == "s3.head_object"}
        assert {"jobs/n00.yaml", "jobs/n01.yaml", "jobs/n02.yaml"} <= looked_at
        assert len(looked_at) == 5
        waited += Counter(looked_at - {"jobs/n00.yaml", "jobs/n01.yaml", "jobs/n02.yaml"})
    assert len(waited) == 2 * ROUND


def test_however_many_wait_for_a_turn_whose_turn_it_is_is_asked_once_in_a_moment() -> None:
    house = house_of(30, running=2)
    beat(house)
    house.account.gate = heard = Heard()
    house.tick()
    shared = {subject: count for (operation, subject), count in heard.calls.items() if subject.startswith("PROJECT#") and operation == "dynamodb.get_item"}
    assert shared == {"PROJECT#turns": 1, "PROJECT#hold": 1}
    house.finish(job=house.named("n00"))
    for _ in range(2):
        beat(house)
        house.tick()
    assert house.named("n02").attempts, "and who is next starts in the tick that gives the turn back"


def test_a_job_that_only_trains_is_read_written_and_told_by_six_calls_in_a_tick() -> None:
    house = house_of(2, running=2)
    for _ in range(2):
        beat(house)
        house.account.gate = heard = Heard()
        house.tick()
    of_one = [
        (operation, subject.split("/")[0].split("#")[0]) for operation, subject in heard.calls if house.named("n01").job_id in subject or "n01" in subject
    ]
    assert sorted(of_one) == [
        ("dynamodb.get_item", "JOB"),
        ("dynamodb.transact_write_items", "JOB"),
        ("s3.get_object", "runs"),
        ("s3.get_object", "runs"),
        ("s3.head_object", "jobs"),
        ("s3.put_object", "status"),
    ]


def test_the_sweep_asks_again_only_for_jobs_that_were_not_driven() -> None:
    house = house_of(4, running=4)
    beat(house)
    house.account.gate = heard = Heard()
    reconcile.handle({}, CONTEXT, house.rooms)
    assert {count for (operation, subject), count in heard.calls.items() if operation == "dynamodb.get_item" and subject.startswith("JOB#")} == {1}


def test_many_launches_side_by_side_ask_once_for_what_serves_all_and_start_one_instance_each() -> None:
    house = House(max_concurrent_jobs=40)
    house.rooms.holds.put(Hold(reason="paused", since=house.now))
    for number in range(40):
        house.put(f"jobs/n{number:02}.yaml", name=f"n{number:02}")
    house.rooms.holds.put(Hold(reason="resumed", since=house.now, until=house.now))
    house.forget()
    house.rooms.each = door._each
    house.account.gate = heard = Heard()
    for _ in range(3):
        house.tick()
    asked = Counter(operation for operation, _ in heard.calls.elements())
    assert (asked["ec2.describe_subnets"], asked["ec2.create_fleet"]) == (1, 40)
    assert len(house.live()) == 40
    assert all(len(job.attempts) == 1 for job in house.jobs)


def test_a_tick_goes_on_launching_what_was_throttled_as_long_as_its_minute_lasts() -> None:
    house = House(max_concurrent_jobs=6)
    bucket = LaunchBucket(0.0)

    def pause(seconds: float) -> None:
        house.now += timedelta(seconds=seconds)
        bucket.tokens += seconds / 10

    house.account.gate = bucket
    house.rooms.pause = pause
    for number in range(6):
        house.put(f"jobs/n{number:02}.yaml", name=f"n{number:02}")
        house.now += timedelta(seconds=1)
    assert house.live() == []
    began = house.now
    counts = house.tick()
    assert len(house.live()) == 4, "one each ten seconds, in the order in which they came; the rest is the next tick's"
    assert [job.name for job in house.jobs if job.attempts] == ["n00", "n01", "n02", "n03"]
    assert LAUNCHES_FOR_S <= (house.now - began).total_seconds() - 60 < LAUNCHES_FOR_S + 2
    assert counts["JobsStarting"] == 6, "what the tick tells is how things stand at its end"


def test_on_the_way_from_a_marker_to_the_end_nothing_is_asked_for_that_only_a_launch_needs() -> None:
    house = House()
    house.put()
    house.beat()
    house.tick()
    house.finish()
    house.forget()
    house.account.gate = heard = Heard()
    house.rooms.driver.drive(house.job.job_id)
    asked = Counter(operation for operation, _ in heard.calls.elements())
    assert asked["ec2.terminate_instances"] == 1
    assert (asked["ec2.describe_subnets"], asked["ec2.describe_spot_price_history"]) == (0, 0)
    assert ("dynamodb.get_item", "PROJECT#hold") not in heard.calls
