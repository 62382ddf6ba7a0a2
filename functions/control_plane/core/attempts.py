"""What is learnt about a job's instances: facts taken in, gangs broken, attempts relieved and concluded."""

from datetime import datetime, timedelta
from typing import Any

from control_plane.core import ledger
from control_plane.core.closing import owe
from control_plane.core.events import InstanceSight, Looked, MarkerSight, Rules
from control_plane.core.failures import SPOT_INTERRUPTED
from control_plane.core.records import Attempt, AttemptEnd, EndedBy, Instance, PriceChange, TrainedFrom
from control_plane.core.state import Job, NoticeKind
from jobspec.heartbeat import Phase
from jobspec.marker import CompletionMarker, FailureCode, Outcome

#: Billing stops at shutting-down (EC2 guide, "Instance lifecycle").
GONE_STATES = frozenset({"shutting-down", "terminated"})
#: One empty answer proves nothing: an instance is taken for gone after not being shown for this long.
MISSING_FOR = timedelta(minutes=5)
#: A spot price changes a few times a day, and a job runs for ninety days at most; beyond this the last price is taken for the rest.
MAX_PRICE_CHANGES = 500


def noted(job: Job, instance_id: str, **facts: Any) -> Job:
    """The job with those times of the instance set, where they were not; unchanged for one that is not the job's."""
    found = job.found(instance_id)
    if found is None:
        return job
    attempt, instance = found
    news = {key: value for key, value in facts.items() if getattr(instance, key) is None}
    return job.with_attempt(attempt.with_instance(instance_id, news)) if news else job


def warned(job: Job, instance_id: str, now: datetime) -> Job:
    """Notes a spot warning, and owes the word of it. A late warning for a concluded attempt is nothing new."""
    found = job.found(instance_id)
    if found is None:
        return job
    attempt, instance = found
    if instance.warned_at is not None or instance.gone_at is not None or not attempt.is_open or job.ended:
        return job
    return owe(noted(job, instance_id, warned_at=now), NoticeKind.INTERRUPTED, now, attempt=attempt.number)


def state_seen(job: Job, instance_id: str, state: str, now: datetime) -> Job:
    """Notes EC2's word on an instance; only an end is a fact that stays."""
    return noted(job, instance_id, gone_at=now) if state in GONE_STATES else job


def absorbed(job: Job, look: Looked, now: datetime) -> Job:
    """Takes in what a look showed of the instances and their heartbeats."""
    shown = {sight.instance_id: sight for sight in look.instances or ()}
    for attempt in job.attempts:
        for instance in attempt.instances:
            job = _seen(job, attempt.number, instance, shown.get(instance.instance_id), look, now)
            job = _heard(job, instance.instance_id, look, now)
        job = _priced(job, attempt.instance_id, look, now)
        job = _forgotten(job, attempt.number)
    return job


def _forgotten(job: Job, number: int) -> Job:
    """Drops what the others of a gang last said once all of it is over: nobody asks for it, and a job's document has an end (``dynamodb``)."""
    attempt = next(one for one in job.attempts if one.number == number)
    if attempt.is_open or attempt.over_at is None or all(one.heartbeat is None for one in attempt.others):
        return job
    return job.with_attempt(attempt.model_copy(update={"others": tuple(one.model_copy(update={"heartbeat": None}) for one in attempt.others)}))


def _seen(job: Job, number: int, instance: Instance, sight: InstanceSight | None, look: Looked, now: datetime) -> Job:
    facts: dict[str, Any] = {}
    if sight is not None:
        job = state_seen(job, instance.instance_id, sight.state, now)
        facts = {"missing_since": None, "state_reason": sight.state_reason or instance.state_reason}
    elif look.instances is not None and instance.gone_at is None:
        since = instance.missing_since or now
        facts = {"missing_since": since} | ({"gone_at": now} if now - since >= MISSING_FOR else {})
    attempt = next(one for one in job.attempts if one.number == number)
    if sight is not None and attempt.others and sight.address:
        facts["address"] = sight.address
    return job.with_attempt(attempt.with_instance(instance.instance_id, facts)) if facts else job


def _priced(job: Job, instance_id: str, look: Looked, now: datetime) -> Job:
    """Takes in the changes of the spot price that this look has read; nothing above the on-demand price is ever paid."""
    attempt, changes = job.attempt_of(instance_id), look.prices.get(instance_id)
    if attempt is None or changes is None:
        return job
    known_to = attempt.priced_at or attempt.launched_at
    paid, last = [], ledger.usd_per_h_now(attempt)
    for change in sorted(changes, key=lambda each: each.at):
        usd_per_h = min(change.usd_per_h, attempt.on_demand_usd_per_h)
        if change.at > known_to and usd_per_h != last:
            paid.append(PriceChange(at=change.at, usd_per_h=usd_per_h))
            last = usd_per_h
    return job.with_attempt(attempt.model_copy(update={"price_changes": (*attempt.price_changes, *paid)[:MAX_PRICE_CHANGES], "priced_at": now}))


def _heard(job: Job, instance_id: str, look: Looked, now: datetime) -> Job:
    found, heartbeat = job.found(instance_id), look.heartbeats.get(instance_id)
    if found is None or heartbeat is None:
        return job
    attempt, instance = found
    if instance.heartbeat is not None and heartbeat.seq <= instance.heartbeat.seq:
        return job
    facts: dict[str, Any] = {"heartbeat": heartbeat, "heartbeat_seen_at": now}
    if instance_id == attempt.instance_id and attempt.trained_from is None and heartbeat.phase is Phase.TRAINING:
        facts["trained_from"] = TrainedFrom(at=heartbeat.at, step=heartbeat.step, seen_at=now)
    job = job.with_attempt(attempt.with_instance(instance_id, facts))
    if heartbeat.notice is not None:
        # The agent polls IMDS: its word arrives even where EventBridge's is lost.
        job = warned(job, instance_id, now) if heartbeat.notice.kind == "interruption" else noted(job, instance_id, rebalance_at=now)
    return job


def closed_by_marker(job: Job, attempt: Attempt, marker: CompletionMarker) -> Job:
    ends = {Outcome.COMPLETED: AttemptEnd.COMPLETED, Outcome.FAILED: AttemptEnd.FAILED, Outcome.STOPPED: AttemptEnd.STOPPED}
    reason = f"{marker.failure.code}: {marker.failure.message}" if marker.failure else marker.outcome.value
    return job.with_attempt(
        attempt.model_copy(update={"end": ends[marker.outcome], "end_reason": reason[:500], "ended_by": "instance", "results": marker.results})
    )


def closed_by_refusal(job: Job, attempt: Attempt, sight: MarkerSight) -> Job:
    """Whoever wrote such a marker has ended, and nothing else is to come: no need to wait for the instance's silence."""
    reason = f"{FailureCode.AGENT_ERROR}: its completion marker was refused: {sight.problem}"
    return job.with_attempt(attempt.model_copy(update={"end": AttemptEnd.FAILED, "end_reason": reason[:500], "ended_by": "instance"}))


def may_begin(attempt: Attempt) -> bool:
    """It may be given its tickets: every instance of a gang must be known by its address, and none be lost."""
    return not attempt.others or (attempt.broken_at is None and all(one.address for one in attempt.instances))


def broken(job: Job, now: datetime) -> Job:
    """Notes which gangs have lost an instance, or are about to: none of them can go on, and the others are to save what they can."""
    for attempt in job.attempts:
        if attempt.others and attempt.is_open and attempt.broken_at is None and attempt.over_at is None and any(map(_is_lost, attempt.instances)):
            job = job.with_attempt(attempt.model_copy(update={"broken_at": now}))
    return job


def _is_lost(instance: Instance) -> bool:
    """It goes or is gone, and its work was not done: one whose trainer has ended well may go before its leader has uploaded everything."""
    has_finished = instance.heartbeat is not None and instance.heartbeat.phase is Phase.FINISHED
    return not has_finished and (instance.warned_at is not None or instance.terminate_at is not None or instance.gone_at is not None)


def concluded(job: Job, look: Looked) -> Job:
    """Concludes the attempts whose instances are gone, once this look has searched for their marker and found none."""
    for attempt in job.attempts:
        if attempt.over_at is None or attempt.instance_id not in look.markers:
            continue
        sight = look.markers[attempt.instance_id]
        if attempt.is_open and (sight is None or sight.marker is None):
            end, reason = _how_it_ended(job, attempt)
            if sight is not None:
                reason = f"{reason}; its completion marker was refused: {sight.problem}"
            attempt = attempt.model_copy(update={"end": end, "end_reason": reason[:500], "ended_by": _who_ended(attempt)})
            job = job.with_attempt(attempt)
    return job


def _how_it_ended(job: Job, attempt: Attempt) -> tuple[AttemptEnd, str]:
    handed_over = attempt.heartbeat is not None and attempt.heartbeat.phase is Phase.HANDED_OVER
    saved = "; handed over" if handed_over else ""
    taken = any(one.warned_at is not None or one.state_reason in SPOT_INTERRUPTED for one in attempt.instances)
    if taken or (handed_over and attempt.relieved_at is None and attempt.broken_at is None):
        return AttemptEnd.INTERRUPTED, f"spot capacity was taken back{saved}"
    if job.ending is not None:
        return AttemptEnd.STOPPED, job.ending.reason
    if attempt.relieved_at is not None:
        return AttemptEnd.RELIEVED, "it handed over to a cheaper instance" if handed_over else "relieved by a cheaper instance, it ended without a word"
    if attempt.others:
        return AttemptEnd.DIED, f"{_first_gone(attempt).instance_id}, one of its {len(attempt.instances)} instances, was lost{saved}"
    if attempt.heartbeat is None:
        return AttemptEnd.DIED, f"{FailureCode.NO_HEARTBEAT}: it was never heard of"
    return AttemptEnd.DIED, f"it ended without a word at step {attempt.heartbeat.step}"


def _who_ended(attempt: Attempt) -> EndedBy:
    if any(one.is_taken for one in attempt.instances):
        return "ec2"
    return "dropforge" if _first_gone(attempt).terminate_at is not None else "unknown"


def _first_gone(attempt: Attempt) -> Instance:
    """The instance whose loss ended the attempt."""
    return min((one for one in attempt.instances if one.gone_at is not None), key=lambda one: (one.gone_at, one.instance_id))


def relief_due(replacement: Attempt, rules: Rules) -> datetime:
    """The latest moment at which the instance beside it is told to hand over: a planned hand-over is of bounded length."""
    return replacement.launched_at + timedelta(seconds=rules.boot_s)


def relieved(job: Job, look: Looked, now: datetime) -> Job:
    """Relieves the instance that works once the replacement beside it stands ready, or has had its time to."""
    serving = [attempt for attempt in job.attempts if attempt.serves]
    if len(serving) < 2:
        return job
    *working, replacement = serving
    is_ready = replacement.heartbeat is not None and replacement.heartbeat.phase is not Phase.STAGING
    if not is_ready and now < relief_due(replacement, look.rules):
        return job
    for attempt in working:
        job = job.with_attempt(attempt.model_copy(update={"relieved_at": now}))
    return job
