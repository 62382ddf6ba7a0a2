"""What dashboard and alarms are told: counts of what happened, once each, and how things stand, also where a tick fails."""

import pytest

from control_plane.core import measures
from control_plane.core.events import InstanceSight, Rules
from control_plane.handlers import reconcile
from jobspec import tags
from jobspec.heartbeat import Phase
from jobspec.instances import GPU_INSTANCES
from jobspec.marker import FailureCode
from tests.core.worlds import FIRST, START, at, gpu
from tests.driver.faults import lost
from tests.driver.house import CONTEXT, House


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
