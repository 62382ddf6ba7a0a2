"""Planted bugs about jobs that are related. See ``mutants``."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane import look as look_room
from control_plane.adapters import dynamodb
from control_plane.core import accept, chain, families, schedules, sweeps, turns
from control_plane.core.events import Before
from control_plane.core.state import ENDS, Job, JobState
from jobspec import keys
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

    patch.set(turns, "place_of", place_of)


# --- sweeps ----------------------------------------------------------------------------------------------------------


@mutant("the jobs of a sweep are created in a write after their parent's")
def _births_in_a_second_write(patch: Patch) -> None:
    old = dynamodb.DynamoStore.save

    def save(self: Any, job: Job, births: tuple[Job, ...] = ()) -> Job:
        saved = old(self, job)
        if births:
            self._outrun_at([write for birth in births for write in self._birth(birth)])
        return saved

    patch.set(dynamodb.DynamoStore, "save", save)


@mutant("the jobs of a sweep are created before their parent knows of them")
def _births_in_a_first_write(patch: Patch) -> None:
    old = dynamodb.DynamoStore.save

    def save(self: Any, job: Job, births: tuple[Job, ...] = ()) -> Job:
        if births:
            self._outrun_at([write for birth in births for write in self._birth(birth)])
        return old(self, job)

    patch.set(dynamodb.DynamoStore, "save", save)


@mutant("a job of a sweep that has ended makes room for the next while its instance still lives")
def _room_while_the_instance_goes(patch: Patch) -> None:
    old = sweeps._seen
    patch.set(sweeps, "_seen", lambda *arguments: _final_where(old(*arguments), lambda child: child.ended))


@mutant("money that a job at work may still cost is not set aside")
def _nothing_set_aside(patch: Patch) -> None:
    patch.set(sweeps, "committed_usd", lambda job: sum(child.cost_usd for child in job.children))


@mutant("a cancelled sweep ends at once, whatever its jobs do")
def _ends_before_its_jobs(patch: Patch) -> None:
    patch.set(sweeps, "cancelled", lambda job, look, now: (sweeps.end(job, JobState.CANCELLED, "the manifest was deleted", now), (), []))


@mutant("a cancelled sweep starts its next jobs before it looks whether it is cancelled")
def _starts_before_it_looks(patch: Patch) -> None:
    old = families.looked

    def looked(job: Job, look: Any, now: Any) -> Any:
        found = sweeps.absorbed(job, look, now)
        if found.is_schedule or found.ended or found.cancel_asked_at is None:
            return old(job, look, now)
        found, born = sweeps._with_births(found, look, now)
        after, _, actions = sweeps.cancelled(found, look, now)
        return after, born, actions

    patch.set(families, "looked", looked)


@mutant("a sweep's jobs are not told of its cancellation, and a manifest put again hides it from them")
def _cancels_nobody(patch: Patch) -> None:
    old = sweeps.cancelled
    patch.set(sweeps, "cancelled", lambda job, look, now: (*old(job, look, now)[:2], []))


@mutant("a word against one job of a sweep is not heard")
def _hears_nothing_of_one(patch: Patch) -> None:
    patch.set(look_room.Watcher, "_withdrawn", lambda self, job: False)


@mutant("a word against a job of a sweep that is not started is heard only as it is spoken")
def _starts_what_was_cancelled(patch: Patch) -> None:
    old = look_room.Watcher.family

    def family(self: Any, job: Job, now: Any) -> Any:
        found = old(self, job, now)
        return replace(found, next_up=dict.fromkeys(found.next_up, False))

    patch.set(look_room.Watcher, "family", family)


@mutant("a word against one job of a sweep is taken for one against each of them")
def _cancels_all_for_one(patch: Patch) -> None:
    old = look_room.Watcher.look

    def look(self: Any, job: Job, *rest: Any) -> Any:
        found = old(self, job, *rest)
        if job.parent is None or found.withdrawn:
            return found
        siblings = [one.job_id for one in self.jobs.load(job.parent.job_id).children]
        return replace(found, withdrawn=any(self.objects.head(job.manifest_ref.bucket, keys.cancel_key(one)) for one in siblings))

    patch.set(look_room.Watcher, "look", look)


@mutant("a job that could not be read is taken for one that is over")
def _unread_is_over(patch: Patch) -> None:
    old = sweeps.absorbed

    def absorbed(job: Job, look: Any, now: Any) -> Job:
        found = old(job, look, now)
        lost = {child.job_id for child in found.children if child.job_id not in look.children and not child.is_final}
        over = {"state": "FAILED", "is_final": True}
        return found.model_copy(update={"children": tuple(child.model_copy(update=over) if child.job_id in lost else child for child in found.children)})

    patch.set(sweeps, "absorbed", absorbed)


@mutant("more of the metric is better, whatever the manifest says")
def _best_is_worst(patch: Patch) -> None:
    old = sweeps.best

    def best(job: Job) -> Any:
        found = [child for child in job.children if child.state == "SUCCEEDED" and child.value is not None]
        return max(found, key=lambda child: child.value, default=None) if found else old(job)

    patch.set(sweeps, "best", best)


@mutant("every job of a sweep sends its e-mails")
def _no_silence(patch: Patch) -> None:
    old = accept.born_of

    def born_of(*arguments: Any) -> Job:
        job = old(*arguments)
        assert job.parent is not None
        return job.model_copy(update={"parent": job.parent.model_copy(update={"mails": True})})

    patch.set(sweeps, "born_of", born_of)


@mutant("a sweep stands in the line for a turn that it never takes")
def _sweep_in_line(patch: Patch) -> None:
    old = turns.place_of
    patch.set(turns, "place_of", lambda job: turns.turn_of(job) if job.is_parent and not job.ended else old(job))


# --- schedules -------------------------------------------------------------------------------------------------------


@mutant("a deleted schedule forgets the job that is at work")
def _forgets_its_job(patch: Patch) -> None:
    old = sweeps.cancelled

    def cancelled(job: Job, look: Any, now: Any) -> Any:
        return (sweeps.end(job, JobState.CANCELLED, "the manifest was deleted", now), (), []) if job.is_schedule else old(job, look, now)

    patch.set(sweeps, "cancelled", cancelled)


@mutant("a schedule puts a job beside one that is at work")
def _overlaps(patch: Patch) -> None:
    patch.set(schedules, "_at_work", lambda job: [])


@mutant("a schedule puts its job some minutes before the time")
def _too_early(patch: Patch) -> None:
    old = schedules.gone_on
    patch.set(schedules, "gone_on", lambda job, look, now: old(job, look, now + timedelta(minutes=4)))


def _final_where(child: Any, holds: Any) -> Any:
    return child.model_copy(update={"is_final": holds(child)})
