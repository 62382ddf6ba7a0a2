"""Planted bugs about jobs that are related. See ``mutants``."""

from datetime import timedelta
from typing import Any

from control_plane.adapters import dynamodb
from control_plane.core import chain, turns
from control_plane.core.events import Before
from control_plane.core.state import ENDS, Job, JobState
from tests.simulation.planting import Patch, mutant


@mutant("a job that has ended, however, counts as one that succeeded")
def _follows_whoever_ended(patch: Patch) -> None:
    old = chain._followed

    def followed(job: Job, after: Any, before: Before, now: Any) -> Job:
        other = before.job
        if other is not None and other.ended:
            other = other.model_copy(update={"state": JobState.SUCCEEDED})
        return old(job, after, Before(other, other), now)

    patch.set(chain, "_followed", followed)


@mutant("a job that follows another starts from the prefix of its last attempt, not of the one that finished")
def _last_attempts_prefix(patch: Patch) -> None:
    patch.set(chain, "_done", lambda source: next((a.writer for a in source.attempts), None))


@mutant("a job that waits for another is not looked at while that one runs, and never again")
def _waits_for_ever(patch: Patch) -> None:
    old = chain.joined
    patch.set(chain, "joined", lambda job, look, now: job if job.follows is not None else old(job, look, now))


@mutant("a name that nobody has is given up at once, though the manifests of a chain come in any order")
def _no_patience_with_names(patch: Patch) -> None:
    patch.set(chain, "ABSENT_GRACE", timedelta(0))


@mutant("a forerunner that failed is waited for, as if it could still succeed")
def _waits_for_one_that_failed(patch: Patch) -> None:
    old = chain._followed

    def followed(job: Job, after: Any, before: Before, now: Any) -> Job:
        other = before.job
        return job if other is not None and other.ended and other.state is not JobState.SUCCEEDED else old(job, after, before, now)

    patch.set(chain, "_followed", followed)


@mutant("a job that waits for another stands in the line for a turn, and keeps those behind it from theirs")
def _in_line_while_it_waits(patch: Patch) -> None:
    old = turns.place_of

    def place_of(job: Job) -> str:
        return turns.turn_of(job) if job.awaits_another and job.state not in ENDS else old(job)

    patch.set(dynamodb, "place_of", place_of)
