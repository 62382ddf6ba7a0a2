"""The heart: ``decide(job, event, now)``. Every question of the form "what if this comes after that" is answered here.

Rules of this file:
* Hints and answers only record facts. ``Looked`` acts on them: it is what the tick does each minute, and what every hint
  makes happen sooner. So a lost, doubled, late or disordered hint changes when a thing is done, never what is done.
* What is owed (a ticket, a launch call, a termination, an e-mail) is derived from the saved facts at each look. Whatever
  a crash left undone is thus done by the next look; nothing has to be remembered but facts.
* The plan of a launch is saved before its call, and repeated unchanged until its outcome is known.
* A marker is read before an attempt is concluded; an attempt is concluded before another instance is asked for. Two
  exceptions: a warned instance may live beside its replacement, for its notice; and an on-demand instance works on beside
  the spot instance that is to relieve it, until that one stands ready.
* Ends absorb.
"""

from datetime import datetime, timedelta
from typing import assert_never

from control_plane.core import attempts, chain, closing, families, gpus, launching, ledger, placement, replacing, schedules, sweeps, terminating
from control_plane.core.actions import Action, CallLaunch, Decision, LookAgain, Terminate, WriteStatus, WriteTicket
from control_plane.core.closing import end, owe
from control_plane.core.events import (
    BudgetAlerted,
    ChildWithdrawn,
    Event,
    FamilyLooked,
    InstanceChanged,
    InterruptionWarned,
    LastStatusWritten,
    LaunchRefused,
    LaunchSucceeded,
    Looked,
    ManifestDeleted,
    NoticePublished,
    NoticeRefused,
    RebalanceRecommended,
    Rescheduled,
    StopWritten,
    TerminationAnswered,
    TicketWritten,
)
from control_plane.core.records import Attempt, Instance
from control_plane.core.state import Ending, Job, JobState, NoticeKind, moved
from jobspec.marker import RETRYABLE, Outcome

#: Longest lead of a stop order before its limit: a last save, and its upload.
STOP_LEAD_S = 120.0
#: An ended job's unanswered launch call is given up after this; the stray sweep ends whatever it may still start.
FORGET_PLAN_AFTER = timedelta(minutes=10)


def decide(job: Job, event: Event, now: datetime) -> Decision:
    """The job after ``event``, and what to do once it is saved. Pure: the same arguments give the same decision."""
    if job.settled:
        return Decision(job, (), "already settled")
    actions: list[Action] = []
    births: tuple[Job, ...] = ()
    match event:
        case Looked():
            after, actions = _look(job, event, now)
        case FamilyLooked():
            after, births, actions = families.looked(closing.reckoned(job, event.in_ledger, now), event, now)
        case Rescheduled():
            after = schedules.rescheduled(job, event, now)
        case ChildWithdrawn(job_id=job_id):
            after = sweeps.withdrawn(job, job_id)
        case ManifestDeleted():
            after = job.model_copy(update={"cancel_asked_at": job.cancel_asked_at or now})
        case InterruptionWarned(instance_id=instance_id):
            after = attempts.warned(job, instance_id, now)
        case RebalanceRecommended(instance_id=instance_id):
            after = attempts.noted(job, instance_id, rebalance_at=now)
        case InstanceChanged(instance_id=instance_id, state=state):
            after = attempts.state_seen(job, instance_id, state, now)
        case BudgetAlerted():
            after = job if job.ended else owe(job, NoticeKind.BUDGET, now)
        case LaunchSucceeded():
            after, actions = launching.launched(job, event, now)
        case LaunchRefused():
            after, actions = launching.refused(job, event, now)
        case TicketWritten(instance_id=instance_id):
            after = attempts.noted(job, instance_id, ticket_at=now)
        case StopWritten(instance_id=instance_id):
            after = attempts.noted(job, instance_id, stop_written_at=now)
        case TerminationAnswered(instance_id=instance_id, state=state):
            after = attempts.state_seen(attempts.noted(job, instance_id, terminate_at=now), instance_id, state, now)
        case NoticePublished(notice_id=notice_id):
            after = closing.published(job, notice_id, now)
        case NoticeRefused(notice_id=notice_id):
            # Not claimed again in this very round, which would go on for as long as the topic refuses.
            return Decision(closing.unclaimed(job, notice_id), (), "the e-mail topic refused")
        case LastStatusWritten():
            return Decision(job.model_copy(update={"settled": True}), (), "settled")
        case _:
            assert_never(event)
    after, letters = closing.claim_notices(after, now)
    actions = [*actions, *letters]
    if after != job:
        after = after.model_copy(update={"updated_at": now})
        actions.append(WriteStatus())
    if closing.is_clear(after):
        actions = [action for action in actions if not isinstance(action, WriteStatus)] + [WriteStatus(last=True)]
    return Decision(after, tuple(actions), after.reason, births)


def _look(job: Job, look: Looked, now: datetime) -> tuple[Job, list[Action]]:
    job = closing.reckoned(attempts.absorbed(job, look, now), look.in_ledger, now)
    job, adopted = launching.adopted(job, look, now)
    if not job.ended:
        job = _read_markers(job, look, now)
    job = attempts.concluded(attempts.broken(job, now), look)
    if not job.ended:
        job = _ended_by_order(job, look, now)
    if not job.ended:
        job = gpus.held_to_use(_held_to_limits(job, now), now, now + timedelta(seconds=STOP_LEAD_S))
    waited = job.awaits_another
    if waited and not job.ended and job.ending is None:
        job = chain.joined(job, look, now)
    elif not job.ended and job.ending is None:
        job = replacing.returned(attempts.relieved(replacing.replaced(job, look, now), look, now), look, now)
    if not job.ended:
        job = _named(job, now)
    elif job.plan is not None and look.instances is not None and now - job.plan.planned_at > FORGET_PLAN_AFTER:
        job = job.model_copy(update={"plan": None})
    # Where it may start was not looked for while it waited for another job.
    again = [LookAgain()] if waited and not job.awaits_another else []
    return job, [*(a for a in adopted if isinstance(a, Terminate) and job.attempt_of(a.instance_id) is None), *_owed(job, look, now), *again]


def _owed(job: Job, look: Looked, now: datetime) -> list[Action]:
    """Every call that the saved facts ask for; each is safe to repeat."""
    launch: list[Action] = [CallLaunch(job.plan)] if job.plan is not None and not job.ended else []
    alive = [(attempt, instance) for attempt in job.attempts for instance in attempt.instances if instance.gone_at is None]
    return launch + [call for attempt, instance in alive if (call := _owed_to(job, attempt, instance, look, now)) is not None]


def _owed_to(job: Job, attempt: Attempt, instance: Instance, look: Looked, now: datetime) -> Action | None:
    """What one live instance is owed next: its end, its ticket, or an order to save."""
    if why := terminating.why_terminate(job, attempt, instance, look, now):
        return Terminate(instance.instance_id, why, attempt.zone)
    if not attempt.is_open:
        return None
    if instance.ticket_at is None:
        return WriteTicket(instance.instance_id) if attempts.may_begin(attempt) else None
    return terminating.stop_order(job, attempt, instance, look.rules) if instance.stop_written_at is None else None


# --- the steps of a look --------------------------------------------------------------------------------------------


def _read_markers(job: Job, look: Looked, now: datetime) -> Job:
    """An attempt's last word decides before anything else does, be the instance alive, warned or gone."""
    for attempt in job.open_attempts():
        sight = look.markers.get(attempt.instance_id)
        if sight is not None and sight.is_refused:
            job = attempts.closed_by_refusal(job, attempt, sight)
        if sight is None or sight.marker is None:
            continue
        marker = sight.marker
        job = attempts.closed_by_marker(job, attempt, marker)
        match marker.outcome:
            case Outcome.COMPLETED:
                return end(job, JobState.SUCCEEDED, f"attempt {attempt.number} finished", now)
            case Outcome.STOPPED:
                return _end_as_ordered(job, now) if job.ending else end(job, JobState.STOPPED_DEADLINE, "the instance's own timer ran out", now)
            case Outcome.FAILED:
                assert marker.failure is not None
                # Where EC2 took another instance of its gang, that is why it failed, whatever it says.
                robbed = any(one.is_taken for one in attempt.others)
                if marker.failure.code not in RETRYABLE and not robbed:
                    return end(job.model_copy(update={"failure": marker.failure.code}), JobState.FAILED, marker.failure.message, now)
            case _:
                assert_never(marker.outcome)
    return job


def _ended_by_order(job: Job, look: Looked, now: datetime) -> Job:
    """A deleted manifest cancels at once, and so does a word against this one job; a stop order ends when its instances are gone or its grace is over."""
    if look.manifest_present is False:
        job = job.model_copy(update={"cancel_asked_at": job.cancel_asked_at or now})
    if job.cancel_asked_at is not None or look.withdrawn:
        return end(job, JobState.CANCELLED, sweeps.why_cancelled(job, look), now)
    if job.ending is not None and (now >= job.ending.terminate_at or all(a.over_at is not None for a in job.open_attempts())):
        return _end_as_ordered(job, now)
    return job


def _end_as_ordered(job: Job, now: datetime) -> Job:
    assert job.ending is not None
    return end(job.model_copy(update={"failure": job.ending.failure}), job.ending.state, job.ending.reason, now)


def _held_to_limits(job: Job, now: datetime) -> Job:
    """Time and money over all attempts. A live instance is asked for a last save shortly before its limit."""
    if job.ending is not None:
        return job
    assert job.manifest is not None, "a job without a manifest is REJECTED, and ended"
    limits, over = job.manifest.limits, None
    alive = [attempt for attempt in job.attempts if attempt.over_at is None]
    if ledger.projected_usd(job, now) >= limits.budget_usd:
        over = (JobState.STOPPED_BUDGET, f"budget_usd ({limits.budget_usd:g}) is used up", now + timedelta(seconds=STOP_LEAD_S))
    until = min((attempt.plan.deadline_at for attempt in alive), default=placement.stop_at(job, now))
    lead_s = min(STOP_LEAD_S, 0.1 * (until - min((a.launched_at for a in alive), default=now)).total_seconds()) if alive else 0.0
    if now >= until - timedelta(seconds=lead_s):
        which = "deadline" if limits.deadline and limits.deadline <= until else "max_runtime"
        over = (JobState.STOPPED_DEADLINE, f"{which} is reached", until)
    if over is None:
        return job
    state, reason, terminate_at = over
    if not alive:
        return end(job, state, reason, now)
    return job.model_copy(update={"ending": Ending(state=state, reason=reason, since=now, terminate_at=terminate_at), "reason": f"stopping: {reason}"})


def _named(job: Job, now: datetime) -> Job:
    """The state that the facts amount to, where no step has named it."""
    if job.plan is not None:
        return job
    serving = next((attempt for attempt in reversed(job.attempts) if attempt.serves), None)
    if serving is None:
        return job
    if serving.heartbeat is not None:
        return moved(job, JobState.RUNNING, job.reason if job.ending else f"attempt {serving.number}: {serving.heartbeat.phase} on {serving.instance_id}", now)
    return job if job.state is JobState.LAUNCHED else moved(job, JobState.LAUNCHED, f"attempt {serving.number}: {serving.instance_id}", now)
