"""The whole control plane over an AWS in memory, with a clock that stands still until it is told to go on.

Everything behind the doors is the real thing, adapters included; only the boto3 clients are played.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from types import SimpleNamespace
from typing import Any

import yaml

from control_plane.core.events import Hint
from control_plane.core.records import Attempt
from control_plane.core.state import Job
from control_plane.handlers import budget, curfew, interruption, publish_ledger, reconcile, report, submit
from control_plane.handlers.rooms import Rooms
from control_plane.settings import Settings
from jobspec import keys, wire
from jobspec.base import FileDigest
from jobspec.heartbeat import GpuUse, Heartbeat, Phase
from jobspec.marker import CompletionMarker, Failure, FailureCode, Outcome, Results
from jobspec.status import Status
from jobspec.ticket import StopOrder, Ticket
from tests.driver.faults import Faults
from tests.planning.architectures import TINY_LLAMA
from tests.simulation.aws import Account, aws_error

DATA, OUTPUTS = "data-bucket", "outputs-bucket"
#: The one bucket of the parameter ReadBuckets.
SHARED = "shared-bucket"
#: Where the webhook's address lies; nothing is there until a test puts it.
WEBHOOK = "/dropforge/webhook"
MANIFEST: dict[str, Any] = {
    "name": "tale",
    "model": {"s3": "models/m/"},
    "data": {"train": "data/train.jsonl"},
    "compute": {"instance_types": ["g5.xlarge", "g6.xlarge"]},
    "notify": {"on": []},
}
#: What the manifest names: a model of some million parameters, and two rows.
MATERIAL: dict[str, bytes] = {
    "models/m/config.json": json.dumps(TINY_LLAMA).encode(),
    "data/train.jsonl": b'{"prompt": "a", "completion": "b"}\n' * 2,
}
#: How long EC2 takes to end an instance that it was asked to end.
ENDS_IN_S = 20
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)


@dataclass(slots=True)
class LaunchBucket:
    """A gate of the account: CreateFleet takes a token, and is throttled where there is none. The test puts them in."""

    tokens: float

    def __call__(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        if operation == "ec2.create_fleet":
            if self.tokens < 1:
                raise aws_error("RequestLimitExceeded", "Request limit exceeded.", "CreateFleet")
            self.tokens -= 1
        return effect()


@dataclass(frozen=True, slots=True)
class Mail:
    subject: str
    body: str
    notice_id: str


@dataclass
class House:
    """The doors' rooms, and the hands of the world: a user, an instance's agent, EC2."""

    max_concurrent_jobs: int = 10
    monthly_cap_usd: float = 1e6
    pause_on_budget: bool = True
    #: The project's other regions, each with one zone.
    peer_regions: tuple[str, ...] = ()
    now: datetime = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
    faults: Faults = field(default_factory=Faults)
    #: (source, detail type, detail) of each event that the account sent.
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    job_writes: int = 0
    #: What was counted, by metric.
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        #: What the world does at some time: a heap, those of one moment in the order in which they were asked for.
        self._due: list[tuple[datetime, int, Any]] = []
        self._asked = count()
        self._notes: list[dict[str, Any]] = []
        self.account = Account(self.clock)
        self.account.gate = self.faults
        self.account.emit = self._sent
        self.account.later = lambda seconds, work: heappush(self._due, (self.now + timedelta(seconds=seconds), next(self._asked), work))
        self.account.dynamodb.on_write = self._written
        self.ec2 = self.account.ec2
        self.ec2.subnets |= {f"subnet-{region}": f"{region}a" for region in self.peer_regions}
        self.ec2.terminated_after_s = lambda instance_id: ENDS_IN_S
        self.s3 = self.account.s3
        for bucket in (DATA, OUTPUTS, SHARED):
            self.s3.make_bucket(bucket)
        for key, body in MATERIAL.items():
            self.s3.write(DATA, key, body)
        settings = Settings(
            project=self.account.project,
            table_name="jobs",
            data_bucket=DATA,
            outputs_bucket=OUTPUTS,
            topic_arn="arn:aws:sns:us-east-1:123456789012:mail",
            instance_role_id=self.account.role_id,
            launch_template_id=self.ec2.template_id,
            launch_template_version="1",
            subnet_ids=("subnet-a", "subnet-b"),
            heartbeat_s=30.0,
            notice_s=120.0,
            stray_grace_s=300.0,
            max_concurrent_jobs=self.max_concurrent_jobs,
            pause_on_budget=self.pause_on_budget,
            monthly_cap_usd=self.monthly_cap_usd,
            volume_gib=150,
            read_buckets=(SHARED,),
            webhook_parameter=WEBHOOK,
            peer_regions=self.peer_regions,
        )
        self.rooms = self._rooms(settings)

    def clock(self) -> datetime:
        return self.now

    def forget(self) -> None:
        """From here on the doors run in a process of their own: nothing is remembered."""
        self.rooms = self._rooms(self.rooms.settings)

    def _rooms(self, settings: Settings) -> Rooms:
        return Rooms(settings, self.account.client, self.clock, self._count)

    def wait(self, seconds: float) -> None:
        """Let time pass. What the topic delivered reaches the ledger, and what EC2 was asked to end, it ends in its time."""
        self.deliver_notes()
        until = self.now + timedelta(seconds=seconds)
        while self._due and self._due[0][0] <= until:
            at, _, work = heappop(self._due)
            self.now = max(self.now, at)
            work()
        self.now = until

    def deliver_notes(self) -> None:
        """The topic's second subscriber hears what was published."""
        notes, self._notes = self._notes, []
        for note in notes:
            publish_ledger.handle({"Records": [{"EventSource": "aws:sns", "Sns": note}]}, CONTEXT, self.rooms)

    # A user.

    def put(self, key: str = "jobs/tale.yaml", body: bytes | None = None, **changes: Any) -> Any:
        """Put a manifest and deliver its event."""
        self.leave(key, body, **changes)
        return self.touch(key)

    def leave(self, key: str = "jobs/tale.yaml", body: bytes | None = None, **changes: Any) -> None:
        """Put a manifest whose event is lost."""
        self.s3.write(DATA, key, yaml.safe_dump({**MANIFEST, **changes}).encode() if body is None else body)

    def touch(self, key: str = "jobs/tale.yaml") -> Any:
        detail = {"bucket": {"name": DATA}, "object": {"key": key}}
        return submit.handle({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}, CONTEXT, self.rooms)

    def delete(self, key: str = "jobs/tale.yaml") -> Any:
        self.s3.remove(DATA, key)
        return self.touch(key)

    def status(self, name: str = "tale", *, refused: bool = False) -> Status | None:
        found = self.s3.read(DATA, keys.refused_key(name) if refused else keys.status_key(name))
        return wire.load(Status, found) if found else None

    @property
    def mails(self) -> list[Mail]:
        return [Mail(one["Subject"], one["Message"], one["MessageAttributes"]["notice_id"]["Value"]) for one in self.account.sns.published]

    # The control plane.

    def tick(self, seconds: float = 60) -> dict[str, Any]:
        """Its counts. Raises reconcile.TickFailed."""
        self.wait(seconds)
        done = reconcile.handle({}, CONTEXT, self.rooms)
        counts: dict[str, Any] = done.get("metrics", done)
        return counts

    def curfew(self) -> int:
        """How many instances were overdue. Raises NotEnded."""
        done = curfew.handle({}, CONTEXT, self.rooms)
        count: int = done.get("metrics", done)["OverdueInstances"]
        return count

    def warn(self, attempt: Attempt) -> Any:
        """EC2's spot warning, delivered."""
        event = {"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning", "detail": {"instance-id": attempt.instance_id}}
        return interruption.handle(event, CONTEXT, self.rooms)

    def draw(self, name: str = "tale") -> Any:
        """The event of a status that was written, delivered."""
        detail = {"bucket": {"name": DATA}, "object": {"key": keys.status_key(name)}}
        return report.handle({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}, CONTEXT, self.rooms)

    def page(self, name: str = "tale") -> str:
        return (self.s3.read(DATA, keys.report_key(name)) or b"").decode()

    def hint(self, hint: Hint) -> Job | None:
        return self.rooms.driver.drive(self.job.job_id, hint)

    def budget_events(self) -> list[dict[str, Any]]:
        return [{"source": source, "detail-type": kind, "detail": detail} for source, kind, detail in self.events if source == "dropforge.budget"]

    def deliver_budget_event(self) -> Any:
        return budget.handle(self.budget_events()[-1], CONTEXT, self.rooms)

    @property
    def jobs(self) -> list[Job]:
        """Every job ever stored, by id, read past every fault."""
        self.account.gate, gate = lambda operation, subject, effect: effect(), self.account.gate
        found = [self.rooms.driver.store.load(pk.removeprefix("JOB#")) for pk in sorted(self.account.dynamodb.items) if pk.startswith("JOB#")]
        self.account.gate = gate
        return [job for job in found if job is not None]

    def named(self, name: str) -> Job:
        """The only job of this name that was not rejected."""
        (job,) = [job for job in self.jobs if job.name == name and job.manifest is not None]
        return job

    @property
    def job(self) -> Job:
        """The only job that was not rejected."""
        (job,) = [job for job in self.jobs if job.manifest is not None]
        return job

    @property
    def attempt(self) -> Attempt:
        return self.job.attempts[-1]

    # An instance's agent.

    def ticket(self, attempt: Attempt | None = None) -> Ticket | None:
        found = self.s3.read(DATA, keys.ticket_key((attempt or self.attempt).writer))
        return wire.load(Ticket, found) if found else None

    def stop_order(self) -> StopOrder | None:
        found = self.s3.read(DATA, keys.stop_key(self.attempt.writer))
        return wire.load(StopOrder, found) if found else None

    def beat(
        self, step: int = 10, phase: Phase = Phase.TRAINING, attempt: Attempt | None = None, job: Job | None = None, gpus: tuple[GpuUse, ...] = ()
    ) -> None:
        of = job or self.job
        one = attempt or of.attempts[-1]
        seq = one.heartbeat.seq + 1 if one.heartbeat else 1
        beat = Heartbeat(
            job_id=of.job_id, attempt=one.number, instance_id=one.instance_id, seq=seq, at=self.now, phase=phase, step=step, total_steps=100, gpus=gpus
        )
        self.s3.write(OUTPUTS, keys.heartbeat_key(of.job_id, one.writer), wire.dump(beat))

    def finish(self, by: Attempt | None = None, job: Job | None = None, **changes: Any) -> str:
        """Upload a model and its marker; returns the marker's key."""
        of = job or self.job
        one, body = by or of.attempts[-1], b"weights"
        self.s3.write(OUTPUTS, keys.run_prefix(of.job_id, one.writer) + "final/adapter_model.safetensors", body)
        marker = CompletionMarker(
            job_id=of.job_id,
            attempt=one.number,
            instance_id=one.instance_id,
            outcome=Outcome.COMPLETED,
            at=self.now,
            files=(FileDigest(path="final/adapter_model.safetensors", size=len(body), sha256=hashlib.sha256(body).hexdigest()),),
            results=Results(steps=100, eval_loss_before=3.5, eval_loss_after=1.5),
        ).model_copy(update=changes)
        return self.mark(one, wire.dump(marker), of)

    def fail(self, code: FailureCode, message: str, job: Job | None = None) -> None:
        of = job or self.job
        one, failure = of.attempts[-1], Failure(code=code, message=message)
        marker = CompletionMarker(job_id=of.job_id, attempt=one.number, instance_id=one.instance_id, outcome=Outcome.FAILED, at=self.now, failure=failure)
        self.mark(one, wire.dump(marker), of)

    def mark(self, attempt: Attempt, body: bytes, job: Job | None = None) -> str:
        key = keys.marker_key((job or self.job).job_id, attempt.writer)
        self.s3.write(OUTPUTS, key, body)
        return key

    # EC2.

    def live(self) -> list[str]:
        return self.ec2.live()

    def reclaim(self, attempt: Attempt) -> None:
        """EC2 takes a spot instance back, without a word before."""
        self.ec2.change(attempt.instance_id, "terminated", "Server.SpotInstanceTermination")

    def close_spot(self, *instance_types: str) -> None:
        """No spot capacity for these types in any zone."""
        self.ec2.capacity = {(kind, zone, "spot"): 0 for kind in instance_types for zone in self.ec2.subnets.values()}

    # What the account tells.

    def _sent(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        self.events.append((source, kind, detail))
        if source == "aws.sns":
            self._notes.append(detail)

    def _count(self, name: str, count: int) -> None:
        self.counts[name] += count

    def _written(self, pk: str, item: Any) -> None:
        self.job_writes += pk.startswith("JOB#")
