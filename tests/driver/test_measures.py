"""What dashboard and alarms are told: counts of what happened, once each, and how things stand, also where a tick fails."""

import pytest

from control_plane.core import measures
from control_plane.core.events import InstanceSight, Rules
from control_plane.core.state import JobState
from control_plane.handlers import reconcile
from jobspec import tags
from jobspec.heartbeat import Phase
from jobspec.instances import GPU_INSTANCES
from jobspec.marker import FailureCode
from jobspec.operator import Hold
from tests.core.worlds import FIRST, START, at, gpu
from tests.driver.faults import lost, refused
from tests.driver.house import CONTEXT, House, LaunchBucket


def test_an_interrupted_job_counts_two_attempts_one_interruption_and_one_end(house: House) -> None:
    house.put()
    house.beat(step=10)
    house.tick()
    first = house.attempt
    house.warn(first)
    house.warn(first)
    house.beat(step=25, phase=Phase.HANDED_OVER, attempt=first)
    house.reclaim(first)
    house.beat(step=25)
    house.tick()
    house.finish()
    for _ in range(3):
        house.tick()
    assert house.counts == {"AttemptsStarted": 2, "Interruptions": 1, "JobsSucceeded": 1}


def test_capacity_that_was_taken_back_without_a_word_is_an_interruption_all_the_same(house: House) -> None:
    house.put()
    house.beat(step=10)
    house.tick()
    house.reclaim(house.attempt)
    house.tick()
    assert (house.counts["Interruptions"], house.counts["AttemptsStarted"]) == (1, 2)


def test_a_death_is_no_interruption(house: House) -> None:
    house.put()
    house.ec2.change(house.attempt.instance_id, "terminated", "Server.InternalError")
    house.tick()
    assert house.counts == {"AttemptsStarted": 2}


def test_each_end_is_counted_by_its_kind(house: House) -> None:
    house.put("jobs/bad.yaml", b"{")
    house.touch("jobs/bad.yaml")
    assert house.counts == {"JobsRejected": 1}
    house.put()
    house.fail(FailureCode.OUT_OF_MEMORY, "no memory")
    house.tick()
    assert house.counts["JobsFailed"] == 1
    house.put("jobs/other.yaml", name="other")
    house.delete("jobs/other.yaml")
    assert house.counts["JobsCancelled"] == 1


def test_jobs_are_shown_by_state_and_dollars_by_the_price_that_was_paid(house: House) -> None:
    house.put()
    assert house.tick()["JobsStarting"] == 1
    house.beat(step=10)
    counts = house.tick()
    assert (counts["JobsStarting"], counts["JobsRunning"], counts["JobsWaiting"], counts["JobsEnding"]) == (0, 1, 0, 0)
    assert counts["SpendUsdPerHour"] == round(house.attempt.usd_per_h, 4) < GPU_INSTANCES[house.attempt.instance_type].on_demand_usd_per_h
    house.close_spot("g5.xlarge", "g6.xlarge")
    house.put("jobs/other.yaml", name="other")
    assert house.tick()["JobsWaiting"] == 1
    assert "GpuPercent" not in house.tick(), "who tells nothing is no zero"


def test_between_jobs_nothing_is_sent_and_the_log_says_that_nothing_is_there(house: House) -> None:
    done = reconcile.handle({}, CONTEXT, house.rooms)
    assert "metrics" not in done
    assert done["LiveInstances"] == 0


def test_an_idle_gpu_is_in_the_numbers_and_the_use_is_the_mean_of_all(house: House) -> None:
    house.put()
    house.beat(step=10, gpus=(gpu(1), gpu(80, index=1)))
    counts = house.tick()
    assert (counts["IdleGpus"], counts["GpuPercent"]) == (1, 40.5)
    house.beat(step=10, phase=Phase.SAVING, gpus=(gpu(1), gpu(80, index=1)))
    counts = house.tick()
    assert counts["IdleGpus"] == 0
    assert "GpuPercent" not in counts, "it does not train any more"


def test_a_silent_instance_that_cannot_be_ended_stays_in_the_numbers_of_the_ticks_that_fail(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    assert house.tick(240)["StaleHeartbeats"] == 0
    house.faults.down(lost(effect=False), "ec2.terminate_instances")
    for _ in range(2):
        with pytest.raises(reconcile.TickFailed) as failed:
            house.tick(70)
        counts = failed.value.counts
        assert (counts["StaleHeartbeats"], counts["LiveInstances"], counts["JobsRunning"]) == (1, 1, 1)
        assert counts["SpendUsdPerHour"] > 0


def sight(instance_id: str = FIRST, state: str = "running", instance_type: str = "g5.xlarge", zone: str = "us-east-1a") -> InstanceSight:
    return InstanceSight(instance_id, state, {tags.JOB: "gone"}, START, instance_type, zone)


def test_an_instance_on_no_record_costs_what_on_demand_costs() -> None:
    told = measures.of_instances([sight(), sight(state="terminated"), sight(instance_type="x1.large")], {"gone": None}, Rules(), at(60))
    assert (told["SpendUsdPerHour"], told["LiveInstances"]) == (GPU_INSTANCES["g5.xlarge"].on_demand_usd_per_h, 2)
    assert measures.of_instances([sight(zone="eu-central-1a")], {"gone": None}, Rules(), at(60))["SpendUsdPerHour"] == 1.258


def _waited_s(house: House, minutes: int) -> list[float]:
    """What each minute's tick tells of how long launches have waited."""
    return [house.tick().get("LaunchWaitSeconds", 0.0) for _ in range(minutes)]


def test_an_hour_of_throttles_is_told_as_an_hour_and_the_launch_ends_it(house: House) -> None:
    house.faults.down(refused("RequestLimitExceeded"), "ec2.create_fleet")
    house.put()
    told = _waited_s(house, 62)
    assert told == [60.0 * minute for minute in range(1, 63)]
    house.faults.mend()
    assert _waited_s(house, 2) == [0.0, 0.0]


def test_capacity_that_is_short_at_every_try_is_told_from_the_first_refusal_on(house: House) -> None:
    house.close_spot("g5.xlarge", "g6.xlarge")
    house.put(limits={"max_wait": "4h"})
    told = _waited_s(house, 90)
    assert told == [60.0 * minute for minute in range(1, 91)]
    assert len(house.ec2.fleet_requests) > 2


def test_a_replacement_that_is_throttled_is_told_and_one_beside_an_instance_that_works_is_not(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    house.faults.down(refused("RequestLimitExceeded"), "ec2.create_fleet")
    assert _waited_s(house, 2) == [0.0, 0.0]
    house.reclaim(house.attempt)
    assert _waited_s(house, 3) == [0.0, 60.0, 120.0]


def test_who_waits_for_a_turn_a_hold_or_a_quota_asks_ec2_for_nothing(house: House) -> None:
    house = House(max_concurrent_jobs=1)
    house.ec2.closed = [("spot", "g6.xlarge", "MaxSpotInstanceCountExceeded")]
    house.put("jobs/small.yaml", name="small", compute={"instance_types": ["g6.xlarge"]})
    assert house.named("small").state is JobState.WAITING
    house.put("jobs/one.yaml", name="one", compute={"instance_types": ["g5.xlarge"]})
    house.put("jobs/two.yaml", name="two", compute={"instance_types": ["g5.xlarge"]})
    house.rooms.holds.put(Hold(reason="paused", since=house.now))
    house.put("jobs/three.yaml", name="three", compute={"instance_types": ["g5.xlarge"]})
    assert len(house.live()) == 1
    for _ in range(70):
        house.beat(job=house.named("one"))
        assert "LaunchWaitSeconds" not in house.tick()


def test_a_burst_that_the_bucket_throttles_waits_no_hour(house: House) -> None:
    """Forty jobs at once, a bucket of four with three a minute: each waits for its turn, and then for minutes at most."""
    house = House(max_concurrent_jobs=12)
    house.account.gate = bucket = LaunchBucket(4.0)
    for number in range(40):
        house.put(f"jobs/n{number:02}.yaml", name=f"n{number:02}")
    longest = 0.0
    while any(not job.ended for job in house.jobs):
        bucket.tokens = min(4.0, bucket.tokens + 3)
        longest = max(longest, house.tick().get("LaunchWaitSeconds", 0.0))
        for job in house.jobs:
            if job.attempts and not job.ended:
                house.finish(job=job)
    assert 0 < longest < 900
