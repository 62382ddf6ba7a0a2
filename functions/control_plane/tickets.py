"""The ticket of an attempt, made of what is on record: what to do, where to take up the work, whom to wait for."""

from datetime import datetime, timedelta

from control_plane.core import attempts
from control_plane.core.events import Rules
from control_plane.core.records import Attempt
from control_plane.core.state import Job
from jobspec.ticket import Gang, Handover, Ticket

#: Beyond its notice, what an interrupted predecessor may need for the upload that is under way.
HANDOVER_MARGIN_S = 30.0


def ticket_of(job: Job, instance_id: str, *, data_bucket: str, outputs_bucket: str, heartbeat_s: float, rules: Rules, now: datetime) -> Ticket:
    """The ticket of the job's attempt on that instance. The same facts give the same ticket, but for ``issued_at``."""
    attempt = job.attempt_of(instance_id)
    assert attempt is not None, "a ticket is written only for an instance on record"
    assert job.manifest is not None, "a job without a manifest launches nothing"
    earlier = [a for a in reversed(job.attempts) if a.number < attempt.number]
    return Ticket(
        job_id=job.job_id,
        name=job.name,
        attempt=attempt.number,
        instance_id=instance_id,
        writer=attempt.writer_of(instance_id),
        manifest=job.manifest,
        data_bucket=data_bucket,
        outputs_bucket=outputs_bucket,
        start=job.follows.start if job.follows is not None else None,
        deadline_at=attempt.plan.deadline_at,
        earlier_writers=tuple(a.writer for a in earlier),
        handovers=tuple(Handover(writer=a.writer, until=_over_at(a, attempt, rules)) for a in earlier if a.is_open and (a.leaves or a.serves)),
        gang=_gang_of(attempt, instance_id),
        heartbeat_s=heartbeat_s,
        market=attempt.market.value,
        launched_at=attempt.launched_at,
        issued_at=now,
    )


def _gang_of(attempt: Attempt, instance_id: str) -> Gang | None:
    """Whom the instance trains with; None for one that trains alone."""
    if not attempt.others:
        return None
    return Gang(
        size=len(attempt.instances),
        rank=[one.instance_id for one in attempt.instances].index(instance_id),
        leader_address=attempt.address,
        members=tuple(attempt.writer_of(one.instance_id) for one in attempt.instances),
        addresses=tuple(one.address for one in attempt.instances),
    )


def _over_at(before: Attempt, attempt: Attempt, rules: Rules) -> datetime:
    """When the predecessor must have saved: after its notice, or, where it still works, after the last moment to relieve it."""
    last = before.leaves_at or attempts.relief_due(attempt, rules)
    return last + timedelta(seconds=rules.notice_s + HANDOVER_MARGIN_S)
