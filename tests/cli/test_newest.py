"""The newest jobs of many, without reading the rest: exactly those that reading all of them would show."""

import io
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from dropforge.jobs.find import AT_ONCE, newest_statuses
from dropforge.stack import Stack
from jobspec import keys, wire
from jobspec.status import Status
from tests.cli.bucket import NOW


@dataclass
class Bucket:
    """Status objects with the times of S3's; counts what is read."""

    objects: dict[str, tuple[datetime, bytes]] = field(default_factory=dict)
    reads: int = 0

    def put(self, name: str, accepted_at: datetime, written_at: datetime) -> None:
        status = Status(
            job_id=f"{name}-1", name=name, state="SUCCEEDED", reason="r", updated_at=accepted_at, accepted_at=accepted_at, manifest="s3://data/jobs/x.yaml"
        )
        self.objects[keys.status_key(name)] = (written_at.replace(microsecond=0), wire.dump(status))

    def get_paginator(self, _operation: str) -> Any:
        return self

    def paginate(self, **_asked: Any) -> list[dict[str, Any]]:
        return [{"Contents": [{"Key": key, "LastModified": written_at} for key, (written_at, _) in sorted(self.objects.items())]}]

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.reads += 1
        return {"Body": io.BytesIO(self.objects[Key][1])}


def stack_of(bucket: Bucket) -> Stack:
    return Stack("dropforge", "data", "outputs", bucket)


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_that_reading_all_would_show_however_late_a_status_was_written(seed: int) -> None:
    draw, bucket = random.Random(seed), Bucket()
    for number in range(draw.randrange(1, 400)):
        accepted_at = NOW - timedelta(minutes=draw.randrange(100_000))
        bucket.put(f"job-{number}", accepted_at, accepted_at + timedelta(minutes=draw.choice((0, 1, 60, 50_000))) - timedelta(minutes=draw.choice((0, 4))))
    most = draw.choice((1, 5, 50, 500))
    whole, none_left = newest_statuses(stack_of(bucket), None)
    shown, left = newest_statuses(stack_of(bucket), most)
    assert (len(whole), none_left) == (len(bucket.objects), 0)
    assert [row.status.accepted_at for row in shown] == [row.status.accepted_at for row in whole[:most]]
    assert left == len(whole) - len(shown)


def test_of_a_thousand_jobs_only_some_are_read() -> None:
    bucket = Bucket()
    for number in range(1000):
        bucket.put(f"job-{number}", NOW - timedelta(hours=number), NOW - timedelta(hours=number - 1))
    shown, left = newest_statuses(stack_of(bucket), 50)
    assert [row.status.name for row in shown] == [f"job-{number}" for number in range(50)]
    assert (left, bucket.reads) == (950, AT_ONCE)


def test_a_status_that_s3_s_slow_clock_dates_before_its_own_job_is_found() -> None:
    bucket = Bucket()
    for number in range(AT_ONCE):
        bucket.put(f"job-{number}", NOW - timedelta(seconds=number), NOW + timedelta(hours=1))
    bucket.put("newest", NOW + timedelta(seconds=1), NOW - timedelta(minutes=2))
    assert newest_statuses(stack_of(bucket), 1)[0][0].status.name == "newest"
