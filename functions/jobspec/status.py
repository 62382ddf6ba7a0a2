"""The status object, ``status/<name>.json``: a job for people and scripts, rewritten at each change.

A bucket listing is thus a status page. Times are UTC; dollars are estimates from launch times and listed prices.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from jobspec.base import Document, Finite, InstanceId, JobId, Step, Text, UtcTime
from jobspec.compute import MAX_NODES
from jobspec.heartbeat import GpuUse
from jobspec.stages import StageSeconds

State = Literal["ACCEPTED", "PLANNED", "LAUNCHED", "RUNNING", "WAITING", "SUCCEEDED", "REJECTED", "FAILED", "CANCELLED", "STOPPED_DEADLINE", "STOPPED_BUDGET"]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProblemLine(Document):
    """One problem of a refused manifest: where, what was found, what is allowed."""

    path: Text
    line: int | None = None
    message: Text
    found: Text = ""
    allowed: Text = ""


class AttemptStatus(Document):
    number: int
    market: Literal["spot", "on-demand"]
    #: Of several instances that train together, the one that leads; ``others`` are the rest, in order of rank.
    instance_id: InstanceId | None = None
    others: Annotated[tuple[InstanceId, ...], Field(max_length=MAX_NODES - 1)] = ()
    instance_type: str | None = None
    zone: str | None = None
    launched_at: UtcTime | None = None
    warned_at: UtcTime | None = None
    ended_at: UtcTime | None = None
    #: Why it ended: completed, failed, interrupted, died, stopped.
    end: str | None = None
    ended_by: Literal["ec2", "dropforge", "instance", "unknown"] | None = None
    #: From the order of the instance to the end of its first step; None before that.
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    #: Where that time went, in the order of time: `launch`, `boot`, `bootstrap` (timer, firewall, the agent's image), `agent` (its start, the
    #: ticket), `stage_data`, `stage_model`, `pull` (what was then still waited for the training image), `handover`, `stage_prepared`,
    #: `stage_checkpoint`, `trainer` (its container), `prepare` (rows), `import`, `load`, `measure` (the model before training), `first_step`.
    #: Together they are `start_s`.
    stages_s: StageSeconds = Field(default_factory=dict)
    first_step: Step | None = None
    last_step: Step | None = None
    #: Use over the last window of training, on the instance that leads; empty where the driver told nothing.
    gpus: Annotated[tuple[GpuUse, ...], Field(max_length=64)] = ()
    #: How many GPUs of all its instances are idle now, as ``limits.idle_gpu`` has it.
    idle_gpus: Annotated[int, Field(ge=0)] = 0
    runtime_s: Finite = 0.0
    #: The price of one instance that was last seen; ``cost_usd`` is of all, and counts each price for the time that it was in force.
    usd_per_h: Usd = 0.0
    cost_usd: Usd = 0.0
    #: Data that crossed regions for it, beside ``cost_usd``.
    egress_usd: Usd = 0.0
    #: Seconds of this attempt's training that its successor did again.
    lost_s: Finite = 0.0


class Receipt(Document):
    """What the job cost so far. ``on_demand_usd``: the same work on-demand, without second starts and work done twice."""

    cost_usd: Usd
    on_demand_usd: Usd
    saved_usd: Finite
    saved_percent: Finite = 0.0
    #: Of ``cost_usd``, what data cost that crossed regions; an estimate.
    egress_usd: Usd = 0.0
    #: An estimate, beside ``cost_usd``: the instances' volumes while they lived.
    volumes_usd: Usd = 0.0
    runtime_s: Finite
    #: Seconds of training that were done again after an instance was lost.
    lost_s: Finite = 0.0
    #: Attempts that cost nothing: EC2 took them back within their first hour.
    free_attempts: Annotated[int, Field(ge=0)] = 0
    note: Text


class TransitionLine(Document):
    at: UtcTime
    state: State
    reason: Text


class SweptJob(Document):
    """One job of a sweep. ``state``: None where it was not started; what would cancel it has its ``job_id`` all the same."""

    number: int
    name: Annotated[str, StringConstraints(max_length=64)]
    job_id: JobId | None = None
    choice: dict[str, bool | int | float | str]
    state: State | None = None
    reason: Text = ""
    cost_usd: Usd = 0.0
    #: Of the sweep's metric.
    value: Finite | None = None


class SweepStatus(Document):
    """How a sweep stands: the table of its jobs, and the best of those that have succeeded, by name."""

    metric: Text
    goal: Literal["min", "max"]
    concurrency: int
    budget_usd: Usd
    cost_usd: Usd
    best: Text | None = None
    jobs: Annotated[tuple[SweptJob, ...], Field(max_length=64)]


class ScheduleStatus(Document):
    """When a schedule puts its next job, and the newest of those that it has put."""

    cron: Text
    timezone: Text
    until: UtcTime | None = None
    next_at: UtcTime | None = None
    jobs: Annotated[tuple[SweptJob, ...], Field(max_length=64)]


class Status(Document):
    version: Literal[1] = 1
    job_id: JobId
    #: Grows with each change of the job: of two statuses of one job, the one with more is newer.
    revision: Annotated[int, Field(ge=0)] = 0
    name: Annotated[str, StringConstraints(max_length=64)]
    state: State
    reason: Text
    updated_at: UtcTime
    accepted_at: UtcTime
    manifest: Text  # s3://bucket/key
    manifest_version: Text = ""
    problems: tuple[ProblemLine, ...] = ()
    #: The name of the sweep or schedule that the job is of; and such a one's own table.
    parent: Annotated[str, StringConstraints(max_length=64)] | None = None
    sweep: SweepStatus | None = None
    schedule: ScheduleStatus | None = None
    step: Step = 0
    total_steps: Step | None = None
    loss: Finite | None = None
    attempts: tuple[AttemptStatus, ...] = ()
    receipt: Receipt | None = None
    #: The manifest's limits.budget_usd.
    budget_usd: Usd | None = None
    #: Where the finished model is, once SUCCEEDED.
    model: Text | None = None
    #: Where the newest whole checkpoint is.
    checkpoint: Text | None = None
    #: Where the job's page is, seconds after this change; it is that of the newest job of the name. A manifest refused beside an active job has none.
    page: Text | None = None
    history: tuple[TransitionLine, ...] = ()

    @property
    def age(self) -> tuple[datetime, str, int]:
        """What orders the statuses of one name: the job accepted last, and its newest revision, is the one to show."""
        return self.accepted_at, self.job_id, self.revision
