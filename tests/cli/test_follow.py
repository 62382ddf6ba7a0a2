"""Following a job: each new thing is told once, and the last word of an attempt that has ended is among them."""

from collections.abc import Iterator

import pytest

from dropforge.jobs.follow import Follower
from jobspec import keys, wire
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.status import Status
from tests.cli.bucket import INSTANCE, NOW, WRITER, Bucket, an_attempt, new_bucket


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with new_bucket() as found:
        yield found


def beats(bucket: Bucket, status: Status, seq: int, phase: Phase, step: int) -> None:
    beat = Heartbeat(job_id=status.job_id, attempt=1, instance_id=INSTANCE, seq=seq, at=NOW, phase=phase, step=step, total_steps=9)
    bucket.stack.s3.put_object(Bucket=bucket.stack.outputs_bucket, Key=keys.heartbeat_key(status.job_id, WRITER), Body=wire.dump(beat))


def test_the_last_word_is_told_though_the_end_was_seen_first(bucket: Bucket) -> None:
    attempt = an_attempt(ended_at=None, end=None, ended_by=None)
    status = bucket.put_status("tale", attempts=(attempt,))
    beats(bucket, status, 1, Phase.TRAINING, 4)
    follower = Follower(bucket.stack, "tale")
    assert [line.text for line in follower.look()] == ["ACCEPTED: taken", "step 4/9"]
    beats(bucket, status, 2, Phase.HANDED_OVER, 6)
    bucket.write(status.model_copy(update={"attempts": (attempt.model_copy(update={"end": "interrupted", "ended_at": NOW, "ended_by": "ec2"}),)}))
    assert [line.text for line in follower.look()] == ["handed_over"]
    assert follower.heartbeats[1].step == 6
    assert list(follower.look()) == []
