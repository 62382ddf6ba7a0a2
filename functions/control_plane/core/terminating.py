"""Which instance must end, and why; and which is first told to save, and until when it may."""

from datetime import datetime, timedelta

from control_plane.core.actions import WriteStop
from control_plane.core.events import Looked, Rules
from control_plane.core.records import Attempt, Instance
from control_plane.core.state import Job
from jobspec.heartbeat import Phase

#: A warned instance that EC2 has not ended by now is ended by us.
WARNED_GRACE = timedelta(minutes=3)
#: An instance powers itself off at its deadline; a minute later it is no longer trusted to.
DEADLINE_GRACE = timedelta(seconds=60)


def why_terminate(job: Job, attempt: Attempt, instance: Instance, look: Looked, now: datetime) -> str:
    """Why this live instance of the attempt must end now, or an empty text. Repeated at each look until EC2 shows it gone."""
    if any(sight.instance_id == instance.instance_id and sight.state in ("stopping", "stopped") for sight in look.instances or ()):
        return "it was stopped, which keeps its volume billed"
    if instance.warned_at is not None:
        # It is to die anyway, and in its first hour it is free only if EC2 ends it (aws.md, "Billing").
        overdue = instance.warned_at + timedelta(seconds=look.rules.notice_s) + WARNED_GRACE
        return "its spot notice is over and EC2 has not ended it" if now >= overdue else ""
    if job.ended:
        return f"the job is over: {job.reason}"
    if attempt.end is None and attempt.relieved_at is not None:
        if attempt.heartbeat is not None and attempt.heartbeat.phase is Phase.HANDED_OVER:
            return "it has handed over to its replacement"
        if now >= _leave_over(attempt.relieved_at, look.rules):
            return "it was to hand over to its replacement, and its time for it is over"
    if attempt.end is not None:
        return f"the attempt is over: {attempt.end_reason}"
    if attempt.broken_at is not None and (why := _why_not_wait(attempt, instance, attempt.broken_at, look.rules, now)):
        return f"an instance of its gang was lost, and {why}"
    if now >= attempt.plan.deadline_at + DEADLINE_GRACE:
        return "its deadline is past"
    if instance.instance_id not in look.heartbeats:
        # Not to hear is not the same as silence: while S3 does not answer us, the instance may well go on writing.
        return ""
    if instance.heartbeat_seen_at is None:
        return "no heartbeat since its launch" if now - attempt.launched_at >= timedelta(seconds=look.rules.boot_s) else ""
    return "its heartbeat stopped" if now - instance.heartbeat_seen_at >= timedelta(seconds=look.rules.stale_s) else ""


def _why_not_wait(attempt: Attempt, instance: Instance, broken_at: datetime, rules: Rules, now: datetime) -> str:
    """Why the rest of a gang has nothing left to save; empty while its leader may still be saving."""
    if attempt.gone_at is not None or attempt.terminate_at is not None:
        return "its leader cannot save"
    if attempt.heartbeat is not None and attempt.heartbeat.phase is Phase.HANDED_OVER:
        return "its leader has handed over"
    if attempt.ticket_at is None or instance.ticket_at is None:
        return "it had not begun"
    return "its time to hand over is over" if now >= _leave_over(broken_at, rules) else ""


def stop_order(job: Job, attempt: Attempt, instance: Instance, rules: Rules) -> WriteStop | None:
    """The order to save that the instance is owed, if any."""
    if job.ending is not None:
        return WriteStop(instance.instance_id, job.ending.reason, job.ending.terminate_at)
    if attempt.relieved_at is not None:
        return WriteStop(instance.instance_id, "a cheaper instance takes over", _leave_over(attempt.relieved_at, rules), hand_over=True)
    if attempt.broken_at is not None and instance.warned_at is None:
        return WriteStop(instance.instance_id, "another instance of its gang is lost", _leave_over(attempt.broken_at, rules), hand_over=True)
    return None


def _leave_over(told_at: datetime, rules: Rules) -> datetime:
    """When an instance that was told to hand over is ended, whether it did or not."""
    return told_at + timedelta(seconds=rules.notice_s) + WARNED_GRACE
