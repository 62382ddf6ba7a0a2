"""What ``cancel`` does: a job's manifest is deleted; a job that shares one with others, started or not, is ended by an object beside it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from dropforge.jobs import find, order
from dropforge.jobs.screen import NEWS_EVERY_S
from dropforge.stack import Stack
from jobspec import keys
from jobspec.status import Status, SweptJob

NOT_STARTED = "not started"
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """The job to cancel. ``manifest``: that of the job, or of the ``parent`` that it is of. ``at_stake``: what is lost, for a person's question."""

    name: str
    job_id: str
    state: str
    manifest: str
    parent: str | None
    at_stake: str

    @property
    def way(self) -> str:
        """What ``cancel`` does, in words."""
        bucket, _ = find.place_of(self.manifest)
        return f"delete {self.manifest}" if self.parent is None else f"put s3://{bucket}/{keys.cancel_key(self.job_id)}"


def target(stack: Stack, word: str) -> Target:
    """The job that ``word`` means. Raises ClickException where it is over, and as ``find.the_status`` does."""
    waiting = find.unstarted(stack, word)
    if waiting is not None:
        sweep, job = waiting
        assert job.job_id is not None, "its sweep's id tells it"
        return Target(job.name, job.job_id, NOT_STARTED, sweep.manifest, sweep.name, f"It is never started then. The other jobs of {sweep.name} go on.")
    found = find.the_status(stack, word)
    if found.state in find.ENDS:
        raise click.ClickException(f"{found.name} is over already: {found.state} ({found.reason}).")
    alone = f" The other jobs of {found.parent} go on." if found.parent is not None else ""
    return Target(found.name, found.job_id, found.state, found.manifest, found.parent, f"{_how_far(found)}{alone} Work since the last checkpoint is lost.")


def _how_far(status: Status) -> str:
    if status.sweep is None:
        return f"It is at step {status.step}."
    return f"{sum(job.state not in (None, *find.ENDS) for job in status.sweep.jobs)} of its jobs at work."


def cancel(stack: Stack, target: Target) -> None:
    """The bucket is versioned: ``retry`` finds a deleted manifest again."""
    bucket, key = find.place_of(target.manifest)
    if target.parent is None:
        stack.s3.delete_object(Bucket=bucket, Key=key)
    else:
        order.put(stack, keys.cancel_key(target.job_id), b"")


def outcome(stack: Stack, target: Target) -> Status | SweptJob | None:
    """How the job stands: its status, or where it has none, its line in its sweep's."""
    status = find.read_status(stack, target.name)
    if status is not None and status.job_id == target.job_id:
        return status
    sweep = find.read_status(stack, target.parent) if target.state == NOT_STARTED and target.parent is not None else None
    return next((job for job in sweep.sweep.jobs if job.name == target.name), None) if sweep is not None and sweep.sweep is not None else None


def wait_for_end(stack: Stack, target: Target, seconds: float, news: Callable[[str], None]) -> Status | SweptJob | None:
    """How the job ended, or None where it has not within that time. ``news`` gets a line whenever five seconds have passed."""
    began = said = time.monotonic()
    until = began + seconds
    while True:
        found = outcome(stack, target)
        if found is not None and found.state in find.ENDS:
            return found
        at = time.monotonic()
        if at >= until:
            return None
        if at - said >= NEWS_EVERY_S:
            said = at
            news(f"{found.state or NOT_STARTED if found else 'no status'} after {at - began:.0f} s ...")
        time.sleep(_LOOK_EVERY_S)
