"""A burst of manifests through EC2's token bucket: nobody lost, nobody doubled, in turn, and no faster than the bucket gives."""

from dataclasses import replace

import pytest

from bench.burst import drained, least_min
from control_plane.core.state import JobState

JOBS, AT_ONCE, TRAIN_MIN, BUCKET, REFILL_A_S = 40, 12, 2, 4, 0.05


def test_it_drains_whole_in_turn_and_no_faster_than_the_bucket_gives() -> None:
    found = drained(JOBS, AT_ONCE, TRAIN_MIN, size=BUCKET, refill_a_s=REFILL_A_S)
    assert found.refusal(JOBS) == ""
    assert found.gate.throttled > 0, "the bucket was the brake"
    assert found.most_live <= AT_ONCE
    assert found.minutes >= least_min(JOBS, AT_ONCE, TRAIN_MIN, size=BUCKET, refill_a_s=REFILL_A_S)
    # Who holds a turn may be served before who came earlier and was throttled, nobody else.
    assert found.out_of_turn <= AT_ONCE
    waiting = found.gate.calls["ec2.create_fleet"] - found.gate.throttled
    assert waiting == JOBS, "who has no turn asks EC2 for nothing"


def test_a_lost_job_a_doubled_one_and_another_end_are_each_refused() -> None:
    found = drained(3, 3, 1)
    assert found.refusal(3) == ""
    assert "3 jobs of 4" in found.refusal(4)
    failed = replace(found, jobs=(*found.jobs[1:], found.jobs[0].model_copy(update={"state": JobState.FAILED})))
    assert "FAILED" in failed.refusal(3)
    found.gate.launched.append("burst-00000")
    assert "4 launches for 3 jobs" in found.refusal(3)


@pytest.mark.parametrize(("jobs", "minutes"), [(10_000, 33), (50, 3)])
def test_the_least_is_the_bucket_or_the_turns_whichever_is_slower(jobs: int, minutes: int) -> None:
    assert round(least_min(jobs, 50 if jobs == 50 else 10_000, 3)) == minutes
