"""One look at a parent's jobs: what a sweep and a schedule do alike. How each goes on from there is its own room's. Pure, like ``decide``."""

from datetime import datetime

from control_plane.core import schedules, sweeps
from control_plane.core.events import FamilyLooked
from control_plane.core.state import Job
from control_plane.core.sweeps import LookedAt


def looked(job: Job, look: FamilyLooked, now: datetime) -> LookedAt:
    """The parent after a look, the jobs to create with it, and what to do once that is saved."""
    job = sweeps.absorbed(job, look, now)
    if job.ended:
        return job, (), []
    if look.manifest_present is False or look.withdrawn:
        job = job.model_copy(update={"cancel_asked_at": job.cancel_asked_at or now})
    if job.cancel_asked_at is not None:
        return sweeps.cancelled(job, look, now)
    return schedules.gone_on(job, look, now) if job.is_schedule else sweeps.gone_on(job, look, now)
