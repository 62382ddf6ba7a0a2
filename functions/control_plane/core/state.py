"""What is known of a job: one frozen document, saved whole, and the states it may go through.

Facts only: whatever can be derived (cost, who may launch, what to say) is derived where it is needed.
``docs/state-machine.md`` is generated from ``TRANSITIONS`` here by ``python -m tools.state_machine``.
"""

from datetime import datetime
from enum import StrEnum

from control_plane.core.kin import Child, Followed, Parent
from control_plane.core.records import Attempt, Instance, LaunchPlan, Market
from jobspec.base import Document, JobId, UtcTime
from jobspec.manifest import Manifest
from jobspec.marker import FailureCode
from jobspec.status import ProblemLine


class JobState(StrEnum):
    ACCEPTED = "ACCEPTED"
    PLANNED = "PLANNED"
    LAUNCHED = "LAUNCHED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    SUCCEEDED = "SUCCEEDED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    STOPPED_DEADLINE = "STOPPED_DEADLINE"
    STOPPED_BUDGET = "STOPPED_BUDGET"


S = JobState
#: States that absorb: nothing revives a finished job.
ENDS = frozenset({S.SUCCEEDED, S.REJECTED, S.FAILED, S.CANCELLED, S.STOPPED_DEADLINE, S.STOPPED_BUDGET})
_STOPS = (S.FAILED, S.CANCELLED, S.STOPPED_DEADLINE, S.STOPPED_BUDGET)

#: Every allowed change of state, with the words for the diagram. REJECTED is a job's first and last state.
TRANSITIONS: dict[JobState, dict[JobState, str]] = {
    S.ACCEPTED: {
        S.PLANNED: "a launch plan is saved",
        S.WAITING: "launches are held, or another job comes first",
        S.RUNNING: "a sweep: its first job is created",
    }
    | dict.fromkeys(_STOPS, ""),
    S.PLANNED: {
        S.LAUNCHED: "an instance answers the plan",
        S.RUNNING: "found alive already",
        S.WAITING: "no capacity, quota, throttled",
        S.SUCCEEDED: "the marker of a warned attempt",
    }
    | dict.fromkeys(_STOPS, ""),
    S.LAUNCHED: {S.RUNNING: "first heartbeat", S.PLANNED: "instance lost or warned", S.WAITING: "lost, and launches are held", S.SUCCEEDED: "marker verified"}
    | dict.fromkeys(_STOPS, ""),
    S.RUNNING: {
        S.PLANNED: "interrupted or died: replacement planned",
        S.WAITING: "lost, and launches are held",
        S.LAUNCHED: "a replacement has no heartbeat yet",
        S.SUCCEEDED: "marker verified",
    }
    | dict.fromkeys(_STOPS, ""),
    S.WAITING: {
        S.PLANNED: "the wait is over",
        S.LAUNCHED: "a lost launch is found",
        S.RUNNING: "a lost launch is found alive",
        S.SUCCEEDED: "the marker of a warned attempt",
    }
    | dict.fromkeys(_STOPS, ""),
} | {end: {} for end in ENDS}


class WaitKind(StrEnum):
    CAPACITY = "capacity"
    QUOTA = "quota"
    THROTTLE = "throttle"
    HELD = "held"
    TURN = "turn"  # as many jobs run as may
    AFTER = "after"  # another job has not succeeded yet
    UNKNOWN = "unknown"


#: A job that waits so could not be started whatever EC2 has: nobody knows yet how long it will wait for capacity.
QUEUED = frozenset({WaitKind.HELD, WaitKind.TURN, WaitKind.AFTER})


class Wait(Document):
    """Why no instance is asked for now, since when without a break, and when to look again."""

    kind: WaitKind
    reason: str
    #: Later than its beginning by the time in the queue, which ``limits.max_wait`` does not count.
    since: UtcTime
    #: When this very wait was written down; None in records of before.
    noted_at: UtcTime | None = None
    until: UtcTime
    times: int = 1


class Ending(Document):
    """A stop that lets the instance save first: the end to come, and when the grace is over."""

    state: JobState
    reason: str
    since: UtcTime
    terminate_at: UtcTime
    failure: FailureCode | None = None


class PoolFailure(Document):
    """A pool that just refused, to be passed over for some minutes."""

    instance_type: str
    zone: str
    market: Market
    at: UtcTime


class NoticeKind(StrEnum):
    END = "end"
    ACCEPTED = "accepted"
    INTERRUPTED = "interrupted"
    RELAUNCHED = "relaunched"
    WAITING = "waiting"
    QUOTA = "quota"
    BUDGET = "budget"
    IDLE = "idle"


class Notice(Document):
    """An e-mail that is owed: claimed by a saved write before it is published, marked after."""

    notice_id: str
    kind: NoticeKind
    owed_at: UtcTime
    #: The attempt it speaks of, where it speaks of one.
    attempt: int | None = None
    claimed_at: UtcTime | None = None
    published_at: UtcTime | None = None


class Transition(Document):
    at: UtcTime
    state: JobState
    reason: str


class ManifestRef(Document):
    """Where the manifest lies; ``version_id`` is the version that was accepted (the ETag in an unversioned bucket)."""

    bucket: str
    key: str
    version_id: str


class Job(Document):
    """One job. ``version`` is the stored item's version: the store refuses a write from any other."""

    job_id: JobId
    name: str
    manifest_ref: ManifestRef
    #: None for a REJECTED job whose manifest could not be read.
    manifest: Manifest | None
    state: JobState
    reason: str
    version: int = 0
    accepted_at: UtcTime
    updated_at: UtcTime
    problems: tuple[ProblemLine, ...] = ()
    #: REJECTED because another job of this name or key is active: its status object must not be touched.
    refused_beside: JobId | None = None
    #: The plan whose outcome is not known yet.
    plan: LaunchPlan | None = None
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()
    wait: Wait | None = None
    ending: Ending | None = None
    cancel_asked_at: UtcTime | None = None
    pool_failures: tuple[PoolFailure, ...] = ()
    notices: tuple[Notice, ...] = ()
    history: tuple[Transition, ...] = ()
    failure: FailureCode | None = None
    follows: Followed | None = None
    #: For a job of a sweep or a schedule; and a parent's own ledger of its jobs.
    parent: Parent | None = None
    children: tuple[Child, ...] = ()
    #: The newest time of a schedule that has put its job, or was passed over.
    dealt_with: UtcTime | None = None
    #: Nothing is left to do: instances gone, e-mails published, last status written.
    settled: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    @property
    def occupies(self) -> bool:
        """It holds one of the project's turns: a launch is on its way, or an instance is not known to be gone."""
        return self.plan is not None or any(attempt.over_at is None for attempt in self.attempts)

    @property
    def is_parent(self) -> bool:
        """It starts no instance, but jobs."""
        return self.is_sweep or self.is_schedule

    @property
    def is_sweep(self) -> bool:
        return self.manifest is not None and self.manifest.sweep is not None and self.manifest.schedule is None

    @property
    def is_schedule(self) -> bool:
        """It may be one of sweeps."""
        return self.manifest is not None and self.manifest.schedule is not None

    @property
    def awaits_another(self) -> bool:
        """``after``: the job that it names is not known to have succeeded."""
        return self.manifest is not None and self.manifest.after is not None and not (self.follows is not None and self.follows.succeeded)

    def attempt_of(self, instance_id: str) -> Attempt | None:
        """The attempt that the instance belongs to, or None: not ours."""
        return next((a for a in self.attempts if a.instance(instance_id) is not None), None)

    def found(self, instance_id: str) -> tuple[Attempt, Instance] | None:
        """The instance and its attempt, or None: not ours."""
        return next(((a, one) for a in self.attempts if (one := a.instance(instance_id)) is not None), None)

    def open_attempts(self) -> tuple[Attempt, ...]:
        return tuple(a for a in self.attempts if a.is_open)

    def with_attempt(self, changed: Attempt) -> "Job":
        """The job with the attempt of that leader replaced."""
        return self.model_copy(update={"attempts": tuple(changed if a.instance_id == changed.instance_id else a for a in self.attempts)})


class IllegalTransition(AssertionError):
    """A programmer's error: a change of state that TRANSITIONS does not know."""


#: History is for people; a job with hundreds of interruptions keeps its newest lines (DynamoDB items end at 400 KB).
MAX_HISTORY = 200


def moved(job: Job, state: JobState, reason: str, now: datetime) -> Job:
    """The job in ``state``, with the change in its history; unchanged where state and reason are the same already."""
    if job.state is state and job.reason == reason:
        return job
    if job.state is not state and state not in TRANSITIONS[job.state]:
        raise IllegalTransition(f"{job.job_id}: {job.state} -> {state} ({reason})")
    line = Transition(at=now, state=state, reason=reason[:500])
    return job.model_copy(update={"state": state, "reason": reason[:500], "history": (*job.history, line)[-MAX_HISTORY:]})
