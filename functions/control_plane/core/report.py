"""A job for people and scripts: the status object, made of the saved facts alone."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.core import gpus, ledger, sweeps
from control_plane.core.records import Attempt, AttemptEnd
from control_plane.core.state import Job, JobState
from jobspec import keys
from jobspec.children import child_id, child_name
from jobspec.stages import in_order
from jobspec.status import AttemptStatus, ScheduleStatus, Status, SweepStatus, SweptJob, TransitionLine


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What a report needs to know of the stack. ``volume_gib``: of each instance's volume, for the receipt."""

    project: str
    data_bucket: str
    outputs_bucket: str
    volume_gib: int


def status_of(job: Job, stack: StackFacts, now: datetime) -> Status:
    """The whole status object of a job."""
    newest = next((a for a in reversed(job.attempts) if a.heartbeat is not None), None)
    beat = newest.heartbeat if newest is not None else None
    saved = max(
        (a.heartbeat.checkpoint for a in job.attempts if a.heartbeat is not None and a.heartbeat.checkpoint is not None), key=lambda c: c.step, default=None
    )
    return Status(
        job_id=job.job_id,
        revision=job.version,
        name=job.name,
        state=job.state.value,
        reason=job.reason,
        updated_at=job.updated_at,
        accepted_at=job.accepted_at,
        manifest=f"s3://{job.manifest_ref.bucket}/{job.manifest_ref.key}",
        manifest_version=job.manifest_ref.version_id,
        problems=job.problems,
        parent=job.parent.name if job.parent is not None else None,
        sweep=_sweep_status(job) if job.is_sweep else None,
        schedule=_schedule_status(job) if job.is_schedule else None,
        step=beat.step if beat else 0,
        total_steps=beat.total_steps if beat else None,
        loss=beat.loss if beat else None,
        attempts=tuple(_attempt_status(job, attempt, now) for attempt in job.attempts),
        receipt=ledger.receipt(job, now, stack.volume_gib) if job.attempts else None,
        budget_usd=_budget_usd(job),
        model=model_location(job, stack.outputs_bucket),
        checkpoint=f"s3://{stack.outputs_bucket}/{saved.key}" if saved else None,
        page=f"s3://{stack.data_bucket}/{keys.report_key(job.name)}" if job.refused_beside is None else None,
        history=tuple(TransitionLine(at=line.at, state=line.state.value, reason=line.reason) for line in job.history),
    )


def _sweep_status(job: Job) -> SweepStatus:
    assert job.manifest is not None
    sweep = job.manifest.sweep
    assert sweep is not None
    started, winner = {child.number: child for child in job.children}, sweeps.best(job)
    jobs = [
        SweptJob(
            number=number,
            name=child_name(job.name, number),
            job_id=child_id(job.name, job.job_id, number),
            choice=choice,
            **(
                {"state": child.state, "reason": child.reason, "cost_usd": round(child.cost_usd, 4), "value": child.value}
                if (child := started.get(number)) is not None
                else {}
            ),
        )
        for number, choice in enumerate(sweep.choices(), start=1)
    ]
    return SweepStatus(
        metric=sweep.metric,
        goal=sweep.goal,
        concurrency=sweep.concurrency,
        budget_usd=sweep.budget_usd,
        cost_usd=round(sum(child.cost_usd for child in job.children), 4),
        best=winner.name if winner is not None else None,
        jobs=tuple(jobs),
    )


def _schedule_status(job: Job) -> ScheduleStatus:
    assert job.manifest is not None
    schedule = job.manifest.schedule
    assert schedule is not None
    lines = [
        SweptJob(number=c.number, name=c.name, job_id=c.job_id, choice={}, state=c.state, reason=c.reason, cost_usd=round(c.cost_usd, 4), value=c.value)
        for c in job.children
    ]
    return ScheduleStatus(
        cron=schedule.cron,
        timezone=schedule.timezone,
        until=schedule.until,
        next_at=schedule.next_after(job.dealt_with or job.accepted_at) if not job.ended else None,
        jobs=tuple(lines),
    )


def model_location(job: Job, outputs_bucket: str) -> str | None:
    """Where the finished model lies, once the job has succeeded."""
    done = next((a for a in job.attempts if a.end is AttemptEnd.COMPLETED), None)
    return f"s3://{outputs_bucket}/{keys.final_prefix(job.job_id, done.writer)}" if done is not None and job.state is JobState.SUCCEEDED else None


def start_of(attempt: Attempt) -> tuple[float | None, dict[str, float]]:
    """Seconds from the order of the instance to the end of its first step, and the stages that they went into. (None, {}) before that."""
    beat = attempt.heartbeat
    if beat is None or beat.first_step_at is None:
        return None, {}
    measured = {name: seconds for name, seconds in beat.stages_s.items() if name != "launch"}
    known_s = sum(measured.values())
    # Two clocks: what the stages say is believed where they are apart.
    start_s = max((beat.first_step_at - attempt.launched_at).total_seconds(), known_s)
    return round(start_s, 1), {name: round(seconds, 1) for name, seconds in in_order({**measured, "launch": start_s - known_s}).items()}


def _attempt_status(job: Job, attempt: Attempt, now: datetime) -> AttemptStatus:
    beat, (start_s, stages_s) = attempt.heartbeat, start_of(attempt)
    return AttemptStatus(
        number=attempt.number,
        market=attempt.market.value,
        instance_id=attempt.instance_id,
        others=tuple(one.instance_id for one in attempt.others),
        instance_type=attempt.instance_type,
        zone=attempt.zone,
        launched_at=attempt.launched_at,
        warned_at=attempt.first_warned_at,
        ended_at=attempt.over_at,
        end=attempt.end.value if attempt.end else None,
        ended_by=attempt.ended_by,
        start_s=start_s,
        stages_s=stages_s,
        first_step=beat.first_step if beat else None,
        last_step=beat.step if beat else None,
        gpus=beat.gpus if beat else (),
        idle_gpus=len(gpus.idle(job, attempt)),
        runtime_s=round(ledger.runtime_s(attempt, now), 1),
        usd_per_h=ledger.usd_per_h_now(attempt),
        cost_usd=round(ledger.cost_usd(attempt, now), 4),
        egress_usd=round(ledger.egress_usd(attempt), 4),
        lost_s=round(ledger.lost_s(job, attempt), 1),
    )


def _budget_usd(job: Job) -> float | None:
    if job.manifest is None:
        return None
    return job.manifest.sweep.budget_usd if job.manifest.sweep is not None else job.manifest.limits.budget_usd
