"""The sweep: which tagged instances no job names any more. Invariant 2 in design.md; a foreign instance is never ours."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from control_plane.core.attempts import GONE_STATES
from control_plane.core.events import InstanceSight
from control_plane.core.state import Job
from control_plane.core.terminating import DEADLINE_GRACE
from jobspec import tags

#: The second look that ends a stray comes at least this long after the first: another tick.
SECOND_LOOK = timedelta(seconds=45)


@dataclass(frozen=True, slots=True)
class Stray:
    instance_id: str
    reason: str
    #: mark: at the first look. end: a later look finds the same. clear: it was marked, and its job names it after all; a wrong
    #: look of today must not be the first look of tomorrow.
    verdict: Literal["mark", "end", "clear"]


def claimed_by(job: Job | None, sight: InstanceSight) -> bool:
    """True while the job names the instance, or waits for the answer of the very call that started it."""
    if job is None or job.settled:
        return False
    waits = job.plan is not None and sight.tags.get(tags.LAUNCH) == job.plan.client_token
    return waits or job.attempt_of(sight.instance_id) is not None


def is_overdue(project: str, sight: InstanceSight, now: datetime) -> bool:
    """A live instance of the project that outlived the deadline in its own tags: nothing else need be known to end it."""
    deadline = tags.deadline_of(sight.tags)
    return sight.tags.get(tags.PROJECT) == project and sight.state not in GONE_STATES and deadline is not None and now >= deadline + 2 * DEADLINE_GRACE


def standing(project: str, instances: tuple[InstanceSight, ...]) -> tuple[InstanceSight, ...]:
    """This project's instances that are not gone: EC2 goes on showing those that are for an hour."""
    return tuple(sight for sight in instances if sight.tags.get(tags.PROJECT) == project and sight.state not in GONE_STATES)


def find_strays(project: str, instances: tuple[InstanceSight, ...], jobs: dict[str, Job | None], grace_s: float, now: datetime) -> list[Stray]:
    """Live instances of this project that must end: on nobody's record for longer than the grace, or past their deadline. And those wrongly marked.

    ``jobs`` holds the job of every standing instance's job tag ("" where it is missing); None where the store knows none of that
    id. A job that could not be read is left out: of its instances only the deadline counts.
    """
    found = []
    for sight in standing(project, instances):
        job_id, since = sight.tags.get(tags.JOB, ""), tags.stray_since(sight.tags)
        if is_overdue(project, sight, now):
            found.append(Stray(sight.instance_id, "it is past the deadline in its tags", "end"))
        elif now - sight.launched_at < timedelta(seconds=grace_s) or job_id not in jobs:
            continue
        elif not claimed_by(jobs[job_id], sight):
            found.append(Stray(sight.instance_id, "no job names it", "end" if since is not None and now - since >= SECOND_LOOK else "mark"))
        elif since is not None:
            found.append(Stray(sight.instance_id, "its job names it after all", "clear"))
    return found
