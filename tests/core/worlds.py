"""A job's world in a few words, for tests that read as stories: times in seconds after the manifest was accepted."""

from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.core.accept import accepted
from control_plane.core.actions import Action, CallLaunch, Decision
from control_plane.core.decide import decide
from control_plane.core.events import Event, InstanceSight, LaunchedInstance, LaunchSucceeded, Looked, MarkerSight, Offers
from control_plane.core.records import LaunchPlan
from control_plane.core.report import StackFacts
from control_plane.core.state import Job, ManifestRef
from jobspec import tags
from jobspec.base import FileDigest
from jobspec.heartbeat import GpuUse, Heartbeat, Notice, Phase, PublishedCheckpoint
from jobspec.manifest import Manifest
from jobspec.marker import CompletionMarker, Failure, FailureCode, Outcome, Results

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
OFFERS = Offers(subnets={"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}, template_id="lt-1", template_version="7", role_id="AROATEST")
STACK = StackFacts(project="dropforge", data_bucket="data", outputs_bucket="outputs", volume_gib=150)
FIRST, SECOND, THIRD = "i-00000000000000001", "i-00000000000000002", "i-00000000000000003"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def manifest(**changes: Any) -> Manifest:
    document: dict[str, Any] = {
        "name": "tale",
        "model": {"s3": "models/m/"},
        "data": {"train": "data/train.jsonl"},
        "compute": {"instance_types": ["g5.xlarge"]},
    }
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return Manifest.model_validate(document)


def new_job(**changes: Any) -> Job:
    return accepted(manifest(**changes), ManifestRef(bucket="data", key="jobs/tale.yaml", version_id="v1"), START)


def heartbeat(
    job: Job,
    instance_id: str,
    *,
    seq: int,
    step: int = 0,
    phase: Phase = Phase.TRAINING,
    notice: Notice | None = None,
    first_step: int = 0,
    gpus: tuple[GpuUse, ...] = (),
) -> Heartbeat:
    attempt = job.attempt_of(instance_id)
    assert attempt is not None
    saved = PublishedCheckpoint(key=f"runs/x/checkpoints/step-{step:08d}/checkpoint.json", step=step, at=START) if step else None
    return Heartbeat(
        job_id=job.job_id,
        attempt=attempt.number,
        instance_id=instance_id,
        seq=seq,
        at=START,
        phase=phase,
        step=step,
        total_steps=100,
        first_step=first_step,
        checkpoint=saved,
        notice=notice,
        gpus=gpus,
    )


def gpu(percent: float, window_s: float = 1800, index: int = 0) -> GpuUse:
    return GpuUse(index=index, percent=percent, memory_mib=9000, memory_total_mib=24564, window_s=window_s)


def marker(job: Job, instance_id: str, outcome: Outcome = Outcome.COMPLETED, code: FailureCode | None = None) -> MarkerSight:
    attempt = job.attempt_of(instance_id)
    assert attempt is not None
    done = outcome is Outcome.COMPLETED
    return MarkerSight(
        CompletionMarker(
            job_id=job.job_id,
            attempt=attempt.number,
            instance_id=instance_id,
            outcome=outcome,
            at=START,
            files=(FileDigest(path="final/adapter_model.safetensors", size=1, sha256="0" * 64),) if done else (),
            results=Results(steps=100, eval_loss_before=3.5, eval_loss_after=1.5) if done else None,
            failure=Failure(code=code, message="what failed") if code else None,
        )
    )


class Story:
    """Feeds a job one event after the other and keeps what was decided. ``states`` maps live instances to EC2's state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.states: dict[str, tuple[str, LaunchPlan, str]] = {}
        self.decisions: list[Decision] = []
        self.letters: list[str] = []

    def tell(self, event: Event, seconds: float) -> tuple[Action, ...]:
        decision = decide(self.job, event, at(seconds))
        assert decision.job.version == self.job.version, "only the store counts versions"
        self.job = decision.job
        self.decisions.append(decision)
        return decision.actions

    def look(self, seconds: float, **facts: Any) -> tuple[Action, ...]:
        """A whole look: instances as ``states`` says, no heartbeat and no marker but those given."""
        instances = tuple(
            InstanceSight(
                instance_id,
                state,
                tags.instance_tags(project="p", job_id=self.job.job_id, attempt=plan.attempt, client_token=plan.client_token, deadline_at=plan.deadline_at),
                START,
                plan.pools[0].instance_type,
                plan.pools[0].zone,
                "spot",
                reason,
                f"10.0.0.{int(instance_id[2:], 16) + 3}",
            )
            for instance_id, (state, plan, reason) in self.states.items()
        )
        known: dict[str, Any] = {
            "instances": instances,
            "heartbeats": {one.instance_id: None for a in self.job.open_attempts() for one in a.instances} | facts.pop("heartbeats", {}),
            "markers": {a.instance_id: None for a in self.job.open_attempts()} | facts.pop("markers", {}),
            "manifest_present": True,
            "offers": OFFERS,
        }
        return self.tell(Looked(**(known | facts)), seconds)

    def launch(self, seconds: float, *instance_ids: str, usd_per_h: float = 0.4) -> tuple[Action, ...]:
        """Answers the pending plan with instances, running at once."""
        plan = self.job.plan
        assert plan is not None, f"no plan is pending: {self.job.state} {self.job.reason}"
        for instance_id in instance_ids:
            self.states[instance_id] = ("running", plan, "")
        return self.tell(LaunchSucceeded(plan, tuple(LaunchedInstance(one, plan.pools[0], usd_per_h) for one in instance_ids)), seconds)

    def gone(self, instance_id: str, reason: str = "") -> None:
        self.states[instance_id] = ("terminated", self.states[instance_id][1], reason)

    def running(self, seconds: float = 30, step: int = 10) -> None:
        """The common beginning: planned, launched, heard of."""
        self.look(0)
        self.launch(1, FIRST)
        self.look(seconds, heartbeats={FIRST: heartbeat(self.job, FIRST, seq=1, step=step)})


def of(kind: type[Action], actions: tuple[Action, ...]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def planned(actions: tuple[Action, ...]) -> LaunchPlan:
    (call,) = of(CallLaunch, actions)
    plan = call.plan
    assert isinstance(plan, LaunchPlan)
    return plan
