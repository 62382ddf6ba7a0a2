"""Ends and e-mails: how a job ends, which notices it owes, when they are claimed, and when nothing is left to do."""

from datetime import datetime, timedelta

from control_plane.core.actions import Action, Publish
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, Notice, NoticeKind, moved

#: A claimed notice that was not marked published, and that the publish ledger does not know after this long, was not
#: published: longer than any function runs, and than the topic takes to tell the ledger.
CLAIM_LASTS = timedelta(minutes=15)
#: Nobody publishes on a claim older than this. Well below CLAIM_LASTS: a late call must not meet a second claim.
CLAIM_SERVES = timedelta(minutes=5)
#: The last e-mail waits for its instances' termination to be accepted, but not for ever.
END_NOTICE_WAITS = timedelta(minutes=10)
#: Sent whatever ``notify.on`` says: the end, and what only a person can mend.
ALWAYS = frozenset({NoticeKind.END, NoticeKind.QUOTA})


def end(job: Job, state: JobState, reason: str, now: datetime) -> Job:
    """The job in an end state, its open attempts closed, its last e-mail owed."""
    for attempt in job.open_attempts():
        job = job.with_attempt(attempt.model_copy(update={"end": AttemptEnd.STOPPED, "end_reason": reason[:500], "ended_by": attempt.ended_by or "dropforge"}))
    return owe(moved(job, state, reason, now), NoticeKind.END, now)


def owe(job: Job, kind: NoticeKind, now: datetime, *, attempt: int | None = None) -> Job:
    """The job with that notice owed, once; kinds that the manifest does not ask for are not, and a sweep's jobs may be silent."""
    if job.parent is not None and not job.parent.mails:
        return job
    wanted = kind in ALWAYS or (job.manifest is not None and kind.value in job.manifest.notify.on)
    notice_id = f"{job.job_id}#{kind}" + (f"#{attempt}" if attempt is not None else "")
    if not wanted or any(notice.notice_id == notice_id for notice in job.notices):
        return job
    return job.model_copy(update={"notices": (*job.notices, Notice(notice_id=notice_id, kind=kind, owed_at=now, attempt=attempt))})


def reckoned(job: Job, in_ledger: dict[str, bool], now: datetime) -> Job:
    """Settles what became of claimed notices: the ledger saw them, or, after a while without a trace, they are owed anew."""
    for notice in job.notices:
        if notice.claimed_at is None or notice.published_at is not None:
            continue
        if in_ledger.get(notice.notice_id) is True:
            job = published(job, notice.notice_id, now)
        elif in_ledger.get(notice.notice_id) is False and now - notice.claimed_at >= CLAIM_LASTS:
            job = unclaimed(job, notice.notice_id)
    return job


def unclaimed(job: Job, notice_id: str) -> Job:
    """The job with a notice owed again, for it is known not to have been published."""
    return job.model_copy(update={"notices": tuple(n.model_copy(update={"claimed_at": None}) if n.notice_id == notice_id else n for n in job.notices)})


def claim_notices(job: Job, now: datetime) -> tuple[Job, list[Action]]:
    """Claims every notice that is due; the claim is saved before the e-mail is published, so two drivers send one."""
    actions: list[Action] = []
    notices = []
    for notice in job.notices:
        if _is_due(job, notice, now):
            notice = notice.model_copy(update={"claimed_at": now})
            actions.append(Publish(notice.notice_id))
        notices.append(notice)
    return (job.model_copy(update={"notices": tuple(notices)}), actions) if actions else (job, actions)


def _is_due(job: Job, notice: Notice, now: datetime) -> bool:
    if notice.published_at is not None or notice.claimed_at is not None:
        return False
    if notice.kind is NoticeKind.END and now - notice.owed_at < END_NOTICE_WAITS:
        return all(one.gone_at is not None or one.terminate_at is not None or one.warned_at is not None for a in job.attempts for one in a.instances)
    return True


def published(job: Job, notice_id: str, now: datetime) -> Job:
    return job.model_copy(
        update={"notices": tuple(n.model_copy(update={"published_at": n.published_at or now}) if n.notice_id == notice_id else n for n in job.notices)}
    )


def is_clear(job: Job) -> bool:
    """Ended, every instance gone, every e-mail published, no launch call unanswered: only the last status is left."""
    return (
        job.ended
        and not job.settled
        and job.plan is None
        and all(attempt.over_at is not None for attempt in job.attempts)
        and all(notice.published_at is not None for notice in job.notices)
    )
