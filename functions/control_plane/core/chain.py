"""``after``: which job is waited for, how it went, and whether what it made can be gone on with. Decided at each look, from records alone.

The other job is found by its name once and kept by its id: a later job of that name changes nothing. Manifests of a chain may be put in
any order, so a name that is not there yet, or whose last job failed before this one was put, is given some minutes.
"""

from datetime import datetime, timedelta

from control_plane.core.closing import end
from control_plane.core.events import Before, Looked
from control_plane.core.kin import Followed
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, Wait, WaitKind, moved
from jobspec import keys
from jobspec.chain import After, Start
from jobspec.manifest import Manifest
from jobspec.methods import Adapter
from jobspec.units import duration_text

#: How long a job that is not there (yet) is waited for.
ABSENT_GRACE = timedelta(minutes=15)
#: What makes an adapter fit only itself. Dropout and merge are each job's own; so is a 4-bit base.
_SHAPE = ("r", "alpha", "target_modules", "rslora", "dora")


def joined(job: Job, look: Looked, now: datetime) -> Job:
    """The job one look later: it still waits, may start (``awaits_another`` is over), or has failed for the other's sake."""
    after = _after(job)
    if look.before is not None:
        job = _followed(job, after, look.before, now)
    if job.awaits_another and not job.ended and now - job.accepted_at >= timedelta(seconds=after.max_wait):
        return end(job, JobState.FAILED, f"after: {after.job} did not succeed within after.max_wait ({duration_text(after.max_wait)})", now)
    return job


def _followed(job: Job, after: After, before: Before, now: datetime) -> Job:
    other = before.job
    if job.follows is None:
        problem = _not_this_one(job, after, other)
        if problem:
            return end(job, JobState.FAILED, problem, now) if now - job.accepted_at >= ABSENT_GRACE else _waits(job, problem, now)
        assert other is not None
        job = job.model_copy(update={"follows": Followed(job_id=other.job_id)})
    if other is None:
        return job
    if not other.ended:
        return _waits(job, f"after: {other.job_id} is not over yet", now)
    if other.state is not JobState.SUCCEEDED:
        return end(job, JobState.FAILED, f"after: {other.job_id} ended as {other.state}: {other.reason}", now)
    if after.use == "nothing":
        return _free(job, Followed(job_id=other.job_id, succeeded=True), f"after: {other.job_id} has succeeded", now)
    return _with_result(job, after, before, now)


def _with_result(job: Job, after: After, before: Before, now: datetime) -> Job:
    assert job.manifest is not None
    assert before.job is not None
    source = before.source
    if source is None:
        return job
    if problem := misfit(job.manifest, after, source):
        return end(job, JobState.FAILED, f"after: {source.job_id} has succeeded, but {problem}", now)
    start = Start(job_id=source.job_id, use="model" if after.use == "model" else "adapter", prefix=_prefix(source, after))
    if after.use == "adapter":
        job = job.model_copy(update={"manifest": shaped_like(job.manifest, source)})
    followed = Followed(job_id=before.job.job_id, succeeded=True, start=start)
    return _free(job, followed, f"after: {source.job_id} has succeeded; its {after.use} is the start", now)


def _not_this_one(job: Job, after: After, other: Job | None) -> str:
    """Why the newest job of that name is not the one that is meant; empty where it is."""
    if other is None:
        return f"after: there is no job {after.job}"
    if other.is_schedule:
        return f"after: {after.job} is a schedule, which goes on; name one of its jobs"
    if other.ended and other.state is not JobState.SUCCEEDED and other.history[-1].at <= job.accepted_at:
        return f"after: {other.job_id} had ended as {other.state} before this job was put, and no other {after.job} has come"
    return ""


def misfit(manifest: Manifest, after: After, source: Job) -> str:
    """Why this job cannot start from what the other made; empty where it can."""
    theirs = source.manifest
    if theirs is None or _done(source) is None:
        return "its result is not on record"
    if (theirs.method == "reward") is not (manifest.method == "reward"):
        return f"its method is {theirs.method}, this job's is {manifest.method}: a reward model has another output"
    if theirs.model != manifest.model:
        return f"its model is {theirs.model.reference()}, and this job's is {manifest.model.reference()}; `model` must be the same"
    if after.use == "model":
        whole = theirs.adapter.type == "full" or theirs.adapter.merge
        return "" if whole else "it made an adapter and no whole model: set adapter.merge there, or say `use: adapter`"
    if theirs.adapter.type == "full":
        return "it trained every weight and has no adapter; say `use: model`"
    if source.follows is not None and source.follows.start is not None and source.follows.start.use == "model":
        return "its adapter is on the model of another job; set adapter.merge there, and say `use: model`"
    other = [name for name in _SHAPE if getattr(manifest.adapter, name) not in (getattr(theirs.adapter, name), Adapter.model_fields[name].default)]
    told = ", ".join(f"adapter.{name} is {getattr(theirs.adapter, name)} there and {getattr(manifest.adapter, name)} here" for name in other)
    return f"{told}: leave it out, for an adapter keeps its shape" if told else ""


def shaped_like(manifest: Manifest, source: Job) -> Manifest:
    """The manifest with the shape of the adapter that it goes on with."""
    assert source.manifest is not None
    shape = {name: getattr(source.manifest.adapter, name) for name in _SHAPE}
    return manifest.model_copy(update={"adapter": manifest.adapter.model_copy(update=shape)})


def _prefix(source: Job, after: After) -> str:
    done = _done(source)
    assert done is not None
    assert source.manifest is not None
    merged = after.use == "model" and source.manifest.adapter.type != "full"
    return keys.final_prefix(source.job_id, done) + (keys.MERGED_FOLDER if merged else "")


def _done(source: Job) -> str | None:
    """The writer of the attempt that finished."""
    return next((attempt.writer for attempt in source.attempts if attempt.end is AttemptEnd.COMPLETED), None)


def _waits(job: Job, reason: str, now: datetime) -> Job:
    if job.wait is not None and job.wait.kind is WaitKind.AFTER and job.wait.reason == reason:
        return job
    wait = Wait(kind=WaitKind.AFTER, reason=reason[:500], since=now, noted_at=now, until=now)
    return moved(job.model_copy(update={"wait": wait}), JobState.WAITING, reason, now)


def _free(job: Job, followed: Followed, reason: str, now: datetime) -> Job:
    """It may start: from here on it waits for capacity like any other."""
    job = job.model_copy(update={"follows": followed, "wait": None})
    return moved(job, JobState.WAITING, reason, now)


def _after(job: Job) -> After:
    assert job.manifest is not None
    assert job.manifest.after is not None
    return job.manifest.after
