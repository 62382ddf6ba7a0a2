"""A burst of manifests: ``python -m bench.burst [--jobs 1000] [--at-once 500]``.

So many manifests lie in the bucket at one moment, each with its event, and CreateFleet gives no more than its token bucket holds. The
control plane runs whole, door by door, over the AWS in memory of tests/simulation; each call takes its time off the clock, as if as many
were under way as the tick has under way, and a tick ends when its Lambda's time is up. Every job trains for some minutes and ends.

Told: how long it took against the least that the bucket and the turns allow, how many calls were throttled, how far a launch came out of the order in
which the jobs came. Refuses to report where a job was lost, ended otherwise than SUCCEEDED, or had another number of instances than one.
"""

import argparse
import logging
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from bench.ticks import PAGE_ROWS, latency_s
from control_plane.adapters.clients import AT_ONCE
from control_plane.core.state import Job, JobState
from control_plane.handlers import reconcile
from jobspec import tags
from tests.driver.house import House
from tests.simulation.aws.faults import aws_error

#: ``Timeout`` of the tick in template.yaml, and EC2's token bucket for calls that change something: CreateFleet is not listed and is taken to fall under
#: it (EC2 guide, "Request throttling": 50, refilled by 5 a second).
TICK_TIMEOUT_S, BUCKET, REFILL_A_S = 120, 50, 5.0
GIVE_UP_AFTER_MIN = 24 * 60


@dataclass(slots=True)
class Gate:
    """What every call passes: it takes its time, and a launch takes a token or is throttled."""

    house: House
    size: float = BUCKET
    refill_a_s: float = REFILL_A_S
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    #: Job ids in the order in which EC2 took their launches.
    launched: list[str] = field(default_factory=list)
    _tokens: float = 0
    _at: datetime | None = None

    def __call__(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        self.calls[operation] += 1
        self.house.now += timedelta(seconds=latency_s(operation) / AT_ONCE)
        if operation == "ec2.create_fleet":
            self._take(subject)
        return effect()

    def _take(self, job_id: str) -> None:
        now = self.house.now
        self._tokens = self.size if self._at is None else min(self.size, self._tokens + self.refill_a_s * (now - self._at).total_seconds())
        self._at = now
        if self._tokens < 1:
            self.throttled += 1
            raise aws_error("RequestLimitExceeded", "Request limit exceeded.", "CreateFleet")
        self._tokens -= 1
        self.launched.append(job_id)


@dataclass(frozen=True, slots=True)
class Drained:
    jobs: tuple[Job, ...]
    minutes: float
    gate: Gate
    #: The most jobs that were live at one time.
    most_live: int

    def refusal(self, wanted: int) -> str:
        """Why nothing may be reported; empty where all is well."""
        ends = Counter(job.state for job in self.jobs)
        instances = Counter(len(attempt.instances) for job in self.jobs for attempt in job.attempts)
        if len(self.jobs) != wanted:
            return f"{len(self.jobs)} jobs of {wanted} manifests"
        if ends != {JobState.SUCCEEDED: wanted}:
            return f"the jobs ended as {dict(ends)}"
        if instances != {1: wanted} or len(self.gate.launched) != wanted:
            return f"{len(self.gate.launched)} launches for {wanted} jobs; attempts by instances: {dict(instances)}"
        return ""

    @property
    def out_of_turn(self) -> int:
        """By how many places the unluckiest job was launched later than it came."""
        came = {job.job_id: place for place, job in enumerate(sorted(self.jobs, key=lambda job: job.accepted_at))}
        return max(place - came[job_id] for place, job_id in enumerate(self.gate.launched))


def drained(jobs: int, at_once: int, train_min: int, *, size: float = BUCKET, refill_a_s: float = REFILL_A_S) -> Drained:
    """Let the burst come, and tick until every job is settled. Raises SystemExit where that takes longer than a day."""
    house = House(max_concurrent_jobs=at_once)
    house.account.dynamodb.page_rows, house.ec2.page_rows, house.s3.page_rows = PAGE_ROWS["dynamodb"], PAGE_ROWS["ec2"], PAGE_ROWS["s3"]
    gate = Gate(house, size, refill_a_s)
    names = [f"burst-{number:05}" for number in range(jobs)]
    for name in names:
        house.leave(f"jobs/{name}.yaml", name=name)
    began, most, ends_at = house.now, 0, {}
    house.rooms.pause = lambda seconds: _pass(house, seconds)
    house.account.gate = gate
    for name in names:
        house.touch(f"jobs/{name}.yaml")
    while next(house.rooms.driver.store.unsettled(), None) is not None:
        if house.now - began > timedelta(minutes=GIVE_UP_AFTER_MIN):
            raise SystemExit(f"not drained within {GIVE_UP_AFTER_MIN} minutes: nothing is reported")
        most = max(most, len(house.live()))
        _play(house, gate, ends_at, train_min)
        house.wait(60 - house.now.timestamp() % 60)
        until = house.now + timedelta(seconds=TICK_TIMEOUT_S)
        context = SimpleNamespace(get_remaining_time_in_millis=lambda until=until: (until - house.now).total_seconds() * 1000)
        reconcile.handle({}, context, house.rooms)
    house.account.gate = lambda operation, subject, effect: effect()
    return Drained(tuple(house.jobs), (house.now - began).total_seconds() / 60, gate, most)


def _pass(house: House, seconds: float) -> None:
    house.now += timedelta(seconds=seconds)


def _play(house: House, gate: Gate, ends_at: dict[str, datetime], train_min: int) -> None:
    """The instances' side of a minute: each runs, tells of itself, and puts its marker when its time is up."""
    house.account.gate = lambda operation, subject, effect: effect()
    for instance_id in house.live():
        instance = house.ec2.instances[instance_id]
        job = house.rooms.driver.store.load(instance.tags[tags.JOB])
        if instance.state == "pending":
            house.ec2.change(instance_id, "running")
        if job is None or job.attempt_of(instance_id) is None:
            continue
        if house.now < ends_at.setdefault(instance_id, house.now + timedelta(minutes=train_min)):
            house.beat(job=job)
        else:
            house.finish(job=job)
    house.account.gate = gate


def least_min(jobs: int, at_once: int, train_min: int, *, size: float = BUCKET, refill_a_s: float = REFILL_A_S) -> float:
    """Minutes below which nobody comes: the bucket's rate, or the turns' - rounds of ``at_once`` jobs that train one after the other."""
    return max((jobs - size) / refill_a_s / 60, jobs / at_once * train_min)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.burst")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=500, help="MaxConcurrentJobs")
    parser.add_argument("--train-min", type=int, default=3, help="minutes that each job trains")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    found = drained(options.jobs, options.at_once, options.train_min)
    if refusal := found.refusal(options.jobs):
        raise SystemExit(f"{refusal}: nothing is reported")
    print(f"{platform.machine()}, Python {platform.python_version()}")
    print(f"{options.jobs} manifests at once, {options.at_once} jobs at a time, {options.train_min} minutes each")
    least = least_min(options.jobs, options.at_once, options.train_min)
    gate = found.gate
    print(f"drained after {found.minutes:.0f} minutes of the played clock, {found.minutes / least:.2f} x the least ({least:.0f}); no job lost, none doubled")
    print(f"launches {len(gate.launched)}, throttled {gate.throttled}; most live at a time {found.most_live}; farthest out of turn {found.out_of_turn} places")
    print(f"calls {sum(gate.calls.values())}: " + ", ".join(f"{count} {name}" for name, count in gate.calls.most_common(8)))
    print(f"{time.perf_counter() - began:.0f} s on this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
