"""A sweep: which of its jobs is started when, when it is over, and which job is the best. Pure, like ``decide``.

Rules of this file:
* The parent's record is the ledger. A job of it is created in the transaction that writes its line, so that none is created twice, none
  after the parent's end, and none that the parent does not know, whatever dies when.
* The jobs are jobs like any other: the tick drives them, and their manifest is the parent's, so that its deletion cancels them all; an object
  beside it cancels one of them. The parent reads how they stand, and starts the next.
* One that is cancelled before it is created never is: it gets a line that says so, whenever that is learnt, and the others keep their numbers.
* Money is set aside, not watched: a job is started only while what is left of ``budget_usd`` covers its own limit, which holds it by itself.
* The parent ends when each of its jobs has, and no instance of theirs is left: the sum that it tells is then the whole.
"""

from datetime import datetime

from control_plane.core import ledger
from control_plane.core.accept import born_of
from control_plane.core.actions import Action, DriveChild, LookAgain
from control_plane.core.closing import end, owe
from control_plane.core.events import FamilyLooked, Looked
from control_plane.core.kin import Child
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, NoticeKind, WaitKind, moved
from jobspec.children import child_id, child_name, child_of, limit_usd
from jobspec.marker import Results
from jobspec.sweep import Sweep

#: Created in one write: a transaction holds a hundred items at most, and a function's time so many first looks.
MOST_BIRTHS = 4
#: So many jobs at the beginning that fail, and none that succeeds: then it is the manifest or the stack, not the values.
FRUITLESS = 3
#: What is left may be a job's limit when nothing else runs, down to this part of it.
LAST_PART = 0.5
_FAILED = ("FAILED", "REJECTED")

LookedAt = tuple[Job, tuple[Job, ...], list[Action]]


def gone_on(job: Job, look: FamilyLooked, now: datetime) -> LookedAt:
    """A sweep that is neither over nor cancelled: its next jobs, or its end."""
    born, known = tuple[Job, ...](), len(job.children)
    if look.manifest_present is not None:
        job, born = _with_births(job, look, now)
    again: list[Action] = [LookAgain()] if len(job.children) > known else []
    job = _owing(_named(job, now), now)
    return job, born, [*(DriveChild(child.job_id) for child in born), *again]


def best(job: Job) -> Child | None:
    """The best of the jobs that have succeeded, the first of several as good; None while there is none with the metric."""
    sweep = _sweep(job)
    found = [child for child in job.children if child.state == "SUCCEEDED" and child.value is not None]
    return min(found, key=lambda child: ((child.value or 0.0) * (1 if sweep.goal == "min" else -1), child.number), default=None)


def measured(results: Results | None, metric: str) -> float | None:
    """A metric by the name that the manifest gives it."""
    if results is None:
        return None
    named = {"eval_loss": results.eval_loss_after, "train_loss": results.train_loss}
    return named[metric] if metric in named else results.eval_metrics_after.get(metric)


def committed_usd(job: Job) -> float:
    """What the jobs have cost, and what those that are not done with may yet cost."""
    return sum(child.cost_usd if child.is_final else max(child.limit_usd, child.cost_usd) for child in job.children)


def cost_usd(job: Job, now: datetime) -> float:
    """What a job has cost, or all jobs of a sweep together."""
    return sum(child.cost_usd for child in job.children) if job.is_parent else ledger.job_cost_usd(job, now)


def absorbed(job: Job, look: FamilyLooked, now: datetime) -> Job:
    """A parent's ledger with what the look has shown of its jobs."""
    metric = _sweep(job).metric if job.is_sweep else "eval_loss"
    return job.model_copy(update={"children": tuple(_seen(child, look.children.get(child.job_id), metric, now) for child in job.children)})


def _seen(child: Child, found: Job | None, metric: str, now: datetime) -> Child:
    if found is None or child.is_final:
        return child
    done = next((attempt for attempt in found.attempts if attempt.end is AttemptEnd.COMPLETED), None)
    return child.model_copy(
        update={
            "state": found.state.value,
            "reason": found.reason,
            "cost_usd": round(cost_usd(found, now), 6),
            "value": measured(done.results, metric) if done is not None else None,
            "needs_quota": found.wait is not None and found.wait.kind is WaitKind.QUOTA and not found.ended,
            "is_final": found.ended and not found.occupies,
        }
    )


def why_cancelled(job: Job, look: Looked | FamilyLooked) -> str:
    """Of a job that is: what a person did to that end."""
    if look.withdrawn:
        return "it was cancelled by itself, and no other job with it"
    if job.parent is not None and look.manifest_present:
        return f"{job.parent.name} was cancelled"
    return "the manifest was deleted"


def cancelled(job: Job, look: FamilyLooked, now: datetime) -> LookedAt:
    """A parent that is cancelled, until its jobs are over. They see a deletion by themselves; they are told all the same, for it may be put again."""
    left = [child for child in job.children if not child.ended]
    if not left:
        return end(job, JobState.CANCELLED, why_cancelled(job, look), now), (), []
    job = job.model_copy(update={"reason": f"cancelling: {len(left)} job(s) are not over yet"})
    return job, (), [*(DriveChild(child.job_id, cancel=True) for child in left), LookAgain()]


def _with_births(job: Job, look: FamilyLooked, now: datetime) -> tuple[Job, tuple[Job, ...]]:
    manifest = job.manifest
    assert manifest is not None
    choices, born = _sweep(job).choices(), list[Job]()
    for number in unborn(job):
        if len(born) == MOST_BIRTHS or number not in look.next_up or (limit := _next_limit_usd(job)) is None:
            break
        if look.next_up[number]:
            job = _never_born(job, number)
            continue
        made = child_of(manifest, number, choices[number - 1])
        child = born_of(job, made, limit, now)
        line = Child(number=number, name=child.name, job_id=child.job_id, choice=made.choice, limit_usd=limit)
        if (holder := look.taken.get(child.name)) is not None:
            # Never created: the name is an active job's, and this one is not worth waiting for it.
            line = line.model_copy(update={"state": "REJECTED", "reason": f"job {holder} of that name is active", "is_final": True})
        else:
            born.append(child)
        job = job.model_copy(update={"children": (*job.children, line)})
    return job, tuple(born)


def next_up(job: Job, look: FamilyLooked, now: datetime) -> dict[int, str]:
    """Ids by number of the jobs that this look may bring to be created, if a person has not cancelled them. No other is created after it."""
    if not job.is_sweep or job.ended:
        return {}
    job = absorbed(job, look, now)
    if _next_limit_usd(job) is None:
        return {}
    places = _sweep(job).concurrency - sum(not child.is_final for child in job.children)
    return {number: child_id(job.name, job.job_id, number) for number in unborn(job)[: min(places, MOST_BIRTHS)]}


def withdrawn(job: Job, job_id: str) -> Job:
    """The parent once a person has cancelled a job of it that is not created; unchanged where that is, or is no job of it."""
    if not job.is_sweep or job.ended or job.cancel_asked_at is not None:
        return job
    number = next((number for number in unborn(job) if child_id(job.name, job.job_id, number) == job_id), None)
    return job if number is None else _never_born(job, number)


def _never_born(job: Job, number: int) -> Job:
    sweep = _sweep(job)
    line = Child(
        number=number,
        name=child_name(job.name, number),
        job_id=child_id(job.name, job.job_id, number),
        choice=sweep.choices()[number - 1],
        limit_usd=0.0,
        state="CANCELLED",
        reason="it was cancelled before it was started",
        is_final=True,
    )
    return job.model_copy(update={"children": (*job.children, line)})


def unborn(job: Job) -> list[int]:
    """The numbers of the jobs without a line."""
    known = {child.number for child in job.children}
    return [number for number in range(1, _sweep(job).size + 1) if number not in known]


def _next_limit_usd(job: Job) -> float | None:
    """The limit of the next job to be created now, or None: all are, as many as may are at work, or nothing more is to be."""
    sweep = _sweep(job)
    at_work = sum(not child.is_final for child in job.children)
    if len(job.children) >= sweep.size or at_work >= sweep.concurrency or _is_fruitless(job):
        return None
    assert job.manifest is not None
    own, left = limit_usd(job.manifest), sweep.budget_usd - committed_usd(job)
    if left >= own * (1 - 1e-9):
        return own
    return left if not at_work and left >= LAST_PART * own else None


def _is_fruitless(job: Job) -> bool:
    ended = _heard_out(job)
    return len(ended) >= FRUITLESS and all(child.state in _FAILED for child in ended)


def _heard_out(job: Job) -> list[Child]:
    """The jobs whose end says something of the manifest: what a person cancelled says nothing."""
    return [child for child in job.children if child.ended and child.state != "CANCELLED"]


def _named(job: Job, now: datetime) -> Job:
    """The state that the jobs amount to."""
    sweep, total = _sweep(job), _sweep(job).size
    over = [child for child in job.children if child.ended]
    if not all(child.is_final for child in job.children) or _next_limit_usd(job) is not None:
        return moved(job, JobState.RUNNING, f"{len(over)} of {total} jobs are over, {len(job.children) - len(over)} are at work", now)
    succeeded = sum(child.state == "SUCCEEDED" for child in job.children)
    left = total - len(job.children)
    winner = best(job)
    told = f"{succeeded} of {total} jobs succeeded" + (f"; the best is {winner.name}: {sweep.metric} {winner.value:.6g}" if winner is not None else "")
    failed = _heard_out(job)
    if left and _is_fruitless(job):
        return end(job, JobState.FAILED, f"the first {len(failed)} jobs failed, so the other {left} were not started; the last: {failed[-1].reason}", now)
    if left:
        return end(job, JobState.STOPPED_BUDGET, f"sweep.budget_usd ({sweep.budget_usd:g}) leaves no more for the other {left} job(s); {told}", now)
    if succeeded:
        return end(job, JobState.SUCCEEDED, told, now)
    return end(job, JobState.FAILED, f"none of {total} jobs succeeded; the last ended as {over[-1].state}: {over[-1].reason}", now)


def _owing(job: Job, now: datetime) -> Job:
    return owe(job, NoticeKind.QUOTA, now) if any(child.needs_quota for child in job.children) else job


def _sweep(job: Job) -> Sweep:
    assert job.manifest is not None
    assert job.manifest.sweep is not None
    return job.manifest.sweep
