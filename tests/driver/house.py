"""The whole control plane over the in-memory world, with a clock that stands still until it is told to go on."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from control_plane.adapters.memory import MemoryBus, MemoryFleet, MemoryHolds, MemoryObjects, MemoryPost, MemoryStore
from control_plane.core.events import Hint, Rules
from control_plane.core.state import Attempt, Job
from control_plane.driver import Driver
from control_plane.look import Watcher
from control_plane.submission import Submission
from control_plane.tick import TickResult, tick
from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.marker import CompletionMarker, Failure, FailureCode, Outcome, Results
from jobspec.status import Status
from jobspec.ticket import StopOrder, Ticket

DATA, OUTPUTS = "data-bucket", "outputs-bucket"
MANIFEST: dict[str, Any] = {
    "name": "tale",
    "model": {"s3": "models/m/"},
    "data": {"train": "data/train.jsonl"},
    "compute": {"instance_types": ["g5.xlarge", "g6.xlarge"]},
    "notify": {"on": []},
}


@dataclass
class House:
    """Ports, driver and doors' rooms, and the hands of the world: a user, an instance's agent, EC2."""

    now: datetime = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
    store: MemoryStore = field(default_factory=MemoryStore)
    objects: MemoryObjects = field(default_factory=lambda: MemoryObjects(DATA, OUTPUTS))
    post: MemoryPost = field(default_factory=MemoryPost)
    bus: MemoryBus = field(default_factory=MemoryBus)
    holds: MemoryHolds = field(default_factory=MemoryHolds)

    def __post_init__(self) -> None:
        self.fleet = MemoryFleet(self.clock, "proj", {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"})
        watcher = Watcher(self.fleet, self.objects, self.holds, OUTPUTS, Rules())
        self.driver = Driver(self.store, self.fleet, self.objects, self.post, watcher, self.clock, "proj", DATA, OUTPUTS, 30.0)

    def clock(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # A user.

    def put(self, key: str = "jobs/tale.yaml", body: bytes | None = None, **changes: Any) -> Any:
        """Put a manifest and deliver its event."""
        self.objects.put(DATA, key, yaml.safe_dump({**MANIFEST, **changes}).encode() if body is None else body)
        return self.touch(key)

    def touch(self, key: str = "jobs/tale.yaml") -> Any:
        return Submission(self.driver).look_at(DATA, key)

    def delete(self, key: str = "jobs/tale.yaml") -> Any:
        self.objects.delete(DATA, key)
        return self.touch(key)

    def status(self, name: str = "tale", *, refused: bool = False) -> Status | None:
        found = self.objects.get(DATA, keys.refused_key(name) if refused else keys.status_key(name), max_bytes=10**6)
        return wire.load(Status, found.body) if found else None

    # The control plane.

    def tick(self, seconds: float = 60) -> TickResult:
        self.wait(seconds)
        return tick(self.driver, self.bus, stray_grace_s=300, has_time=lambda: True)

    def hint(self, hint: Hint) -> Job | None:
        return self.driver.drive(self.job.job_id, hint)

    @property
    def job(self) -> Job:
        """The only job that was not rejected."""
        (job,) = [job for job in self.store.all_jobs() if job.manifest is not None]
        return job

    @property
    def attempt(self) -> Attempt:
        return self.job.attempts[-1]

    # An instance's agent.

    def ticket(self, attempt: Attempt | None = None) -> Ticket | None:
        found = self.objects.get(DATA, keys.ticket_key((attempt or self.attempt).writer), max_bytes=10**6)
        return wire.load(Ticket, found.body) if found else None

    def stop_order(self) -> StopOrder | None:
        found = self.objects.get(DATA, keys.stop_key(self.attempt.writer), max_bytes=10**6)
        return wire.load(StopOrder, found.body) if found else None

    def beat(self, step: int = 10, phase: Phase = Phase.TRAINING, attempt: Attempt | None = None) -> None:
        one = attempt or self.attempt
        seq = one.heartbeat.seq + 1 if one.heartbeat else 1
        beat = Heartbeat(job_id=self.job.job_id, attempt=one.number, instance_id=one.instance_id, seq=seq, at=self.now, phase=phase, step=step, total_steps=100)
        self.objects.put(OUTPUTS, keys.heartbeat_key(self.job.job_id, one.writer), wire.dump(beat))

    def finish(self, by: Attempt | None = None, **changes: Any) -> str:
        """Upload a model and its marker; returns the marker's key."""
        one, body = by or self.attempt, b"weights"
        prefix = keys.run_prefix(self.job.job_id, one.writer)
        self.objects.put(OUTPUTS, prefix + "final/adapter_model.safetensors", body)
        marker = CompletionMarker(
            job_id=self.job.job_id,
            attempt=one.number,
            instance_id=one.instance_id,
            outcome=Outcome.COMPLETED,
            at=self.now,
            files=(FileDigest(path="final/adapter_model.safetensors", size=len(body), sha256=hashlib.sha256(body).hexdigest()),),
            results=Results(steps=100, eval_loss_before=3.5, eval_loss_after=1.5),
        ).model_copy(update=changes)
        return self.mark(one, wire.dump(marker))

    def fail(self, code: FailureCode, message: str) -> None:
        one = self.attempt
        failure = Failure(code=code, message=message)
        marker = CompletionMarker(job_id=self.job.job_id, attempt=one.number, instance_id=one.instance_id, outcome=Outcome.FAILED, at=self.now, failure=failure)
        self.mark(one, wire.dump(marker))

    def mark(self, attempt: Attempt, body: bytes) -> str:
        key = keys.marker_key(self.job.job_id, attempt.writer)
        self.objects.put(OUTPUTS, key, body)
        return key

    # EC2.

    def live(self) -> list[str]:
        return [sight.instance_id for sight in self.fleet.every_instance() if sight.state in ("pending", "running")]

    def end_instances(self) -> None:
        """What EC2 was asked to end, it has ended."""
        for sight in self.fleet.every_instance():
            if sight.state == "shutting-down":
                self.fleet.advance(sight.instance_id, "terminated")
