"""Who is next: the order in which jobs are driven, and in which they get one of the project's turns.

A job's place is a text; texts sort as the jobs should be taken. Jobs that run or have ended come first, for only they
give turns back; then those that wait for one, by the time they came. A priority is a head start (or a handicap) of some
hours, not a class of its own: so no flood of urgent jobs keeps the others waiting for ever.
"""

from datetime import timedelta

from control_plane.core.state import Job, JobState, WaitKind

HEAD_START = {"high": timedelta(hours=6), "normal": timedelta(0), "low": timedelta(hours=-6)}
#: What the places of waiting jobs begin with.
WAITING = "1#"
_BUSY = "0#"


def place_of(job: Job) -> str:
    """The place of an unsettled job in the project's line."""
    waits = (
        not job.ended
        and not job.occupies
        and not job.awaits_another
        and not job.is_parent
        and (job.state is JobState.ACCEPTED or (job.wait is not None and job.wait.kind is WaitKind.TURN))
    )
    return turn_of(job) if waits else f"{_BUSY}{job.job_id}"


def turn_of(job: Job) -> str:
    """The place that the job has, or would have, among those that wait."""
    assert job.manifest is not None, "a job without a manifest is REJECTED, and starts nothing"
    came = job.accepted_at - HEAD_START[job.manifest.priority]
    return f"{WAITING}{came:%Y-%m-%dT%H:%M:%S.%f}#{job.job_id}"
