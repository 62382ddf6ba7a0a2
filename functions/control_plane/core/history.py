"""What a job's own attempts teach: how far the work is and how fast it goes, what a start costs, which pools last. From what is on record."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.core.events import Rules
from control_plane.core.records import Attempt, AttemptEnd, Market, Pool
from control_plane.core.state import Job, WaitKind
from control_plane.core.strategy import Record, watched
from jobspec.heartbeat import Phase

#: Taken for a start, and for a change from a running instance to one that has started beside it, until the job has measured its own.
PRIOR_DELAY_S, PRIOR_RETURN_S = 600.0, 240.0
#: An instance is relieved by the one beside it after this time, ready or not (``attempts.relief_due``).
BESIDE_S = Rules().boot_s
#: A rate may fall (another type, a slower disk), and after the last step there is the upload of the results.
RATE_MARGIN, FINISH_S = 1.05, 180.0
#: Rates and delays of so many newest attempts count; the slowest of them is believed.
NEWEST = 3
#: A pool that took back two instances within this time rests; twice as long with each more.
BREAKER_MEMORY = timedelta(hours=6)
BREAKER_REST, BREAKER_LONGEST = timedelta(minutes=5), timedelta(hours=1)
#: A pool that had no capacity is passed over this long.
POOL_REST = timedelta(minutes=5)

PoolKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Progress:
    """Seconds of work left, at the slowest of the newest rates.

    ``measured`` False: no attempt has trained yet. Then the work may be as long as the job may run, or as on-demand from now on
    could just do in time: with no more slack than is known of, such a job begins on on-demand, is measured there, and moves.
    """

    work_left_s: float
    measured: bool


@dataclass(frozen=True, slots=True)
class History:
    """``records``: of spot, by (type, zone). ``tired``: pools to pass over for now. ``out_s``: how long no spot was to be had.
    ``save_interval_s``: from one save to the next, as the newest attempt that has measured it has it, else as the manifest has it."""

    progress: Progress
    delay_s: float
    return_delay_s: float
    records: dict[PoolKey, Record]
    tired: dict[Market, frozenset[PoolKey]]
    out_s: float
    save_interval_s: float


def history_of(job: Job, now: datetime) -> History:
    spot = [attempt for attempt in job.attempts if attempt.market is Market.SPOT]
    return History(
        progress=_progress(job, now),
        delay_s=_delay_s(job),
        return_delay_s=_return_delay_s(job),
        records={key: _record([one for one in spot if key_of(one) == key], now) for key in {key_of(one) for one in spot}},
        tired={market: _tired(job, market, now) for market in Market},
        out_s=_out_s(job, spot, now),
        save_interval_s=_save_interval_s(job),
    )


def key_of(pool: Pool | Attempt) -> PoolKey:
    return (pool.instance_type, pool.zone)


def _progress(job: Job, now: datetime) -> Progress:
    assert job.manifest is not None
    limits = job.manifest.limits
    beats = [attempt.heartbeat for attempt in job.attempts if attempt.heartbeat is not None]
    total = next((beat.total_steps for beat in reversed(beats) if beat.total_steps), None)
    rates = [rate for attempt in job.attempts if (rate := steps_per_s(attempt)) is not None][-NEWEST:]
    if total is None or not rates:
        longest_s = limits.max_runtime if limits.deadline is None else min(limits.max_runtime, (limits.deadline - now).total_seconds() - _delay_s(job))
        return Progress(longest_s, measured=False)
    rate = min(rates) / RATE_MARGIN
    return Progress(max(0, total - _step(job)) / rate + FINISH_S, measured=True)


def _step(job: Job) -> int:
    """The step that the work is at: of the instance that does it, else of the newest durable checkpoint."""
    working = [attempt.heartbeat.step for attempt in job.attempts if attempt.serves and attempt.heartbeat is not None]
    durable = [attempt.heartbeat.checkpoint.step for attempt in job.attempts if attempt.heartbeat is not None and attempt.heartbeat.checkpoint is not None]
    return max(*working, *durable, 0, 0)


def steps_per_s(attempt: Attempt) -> float | None:
    """By the instance's own clock, from its first to its newest word of training."""
    if attempt.heartbeat is None or attempt.trained_from is None:
        return None
    passed_s = (attempt.heartbeat.at - attempt.trained_from.at).total_seconds()
    steps = attempt.heartbeat.step - attempt.trained_from.step
    return steps / passed_s if steps > 0 and passed_s > 0 else None


def _delay_s(job: Job) -> float:
    """From a launch to the first word of training, by our own clock: provision, pull, staging, restore; without the wait for a predecessor.

    One that is, or was lost, in its staging takes at least as long as it was seen to: or one lost start after the other would be taken for a short one.
    """
    measured = [
        (attempt.trained_from.seen_at - attempt.launched_at).total_seconds() - (attempt.heartbeat.stages_s.get("handover", 0.0) if attempt.heartbeat else 0.0)
        for attempt in job.attempts
        if attempt.trained_from is not None
    ]
    whole_s = max((max(one, 0.0) for one in measured[-NEWEST:]), default=PRIOR_DELAY_S)
    return max([whole_s, *(_staged_s(attempt) for attempt in job.attempts[-NEWEST:])])


def _staged_s(attempt: Attempt) -> float:
    """How long the instance has been seen to stage without training, by our own clock; 0 where it has trained, or never spoke."""
    if attempt.heartbeat is None or attempt.heartbeat_seen_at is None or attempt.heartbeat.phase is not Phase.STAGING:
        return 0.0
    return (attempt.heartbeat_seen_at - attempt.launched_at).total_seconds()


def _return_delay_s(job: Job) -> float:
    """A last save, whose length is taken for that of the restore, and the restore; and what a start takes beyond the time that is given it side by side."""
    measured = [
        2 * (beat.stages_s.get("stage_checkpoint", 0.0) + beat.stages_s["load"])
        for attempt in job.attempts
        if (beat := attempt.heartbeat) is not None and "load" in beat.stages_s
    ]
    return max(measured[-NEWEST:], default=PRIOR_RETURN_S) + max(0.0, _delay_s(job) - BESIDE_S)


def _save_interval_s(job: Job) -> float:
    assert job.manifest is not None
    told = (attempt.heartbeat.saving for attempt in reversed(job.attempts) if attempt.heartbeat is not None)
    return next((one.interval_s for one in told if one is not None), float(job.manifest.checkpoint.assumed_interval_s))


def _lost_at(attempt: Attempt) -> datetime | None:
    return attempt.first_warned_at or (attempt.over_at if attempt.end is AttemptEnd.INTERRUPTED else None)


def _record(attempts: list[Attempt], now: datetime) -> Record:
    record, since = Record(), None
    for attempt in attempts:
        lost_at = _lost_at(attempt)
        until = lost_at or attempt.over_at or now
        if since is not None:
            record = watched(record, max(0.0, (attempt.launched_at - since).total_seconds()), up=False)
        record = watched(record, max(0.0, (until - attempt.launched_at).total_seconds()), up=True, lost=lost_at is not None)
        since = until
    return record if since is None else watched(record, max(0.0, (now - since).total_seconds()), up=False)


def _tired(job: Job, market: Market, now: datetime) -> frozenset[PoolKey]:
    refused = {(one.instance_type, one.zone) for one in job.pool_failures if one.market is market and now - one.at < POOL_REST}
    losses: dict[PoolKey, list[datetime]] = {}
    for attempt in job.attempts:
        lost_at = _lost_at(attempt)
        if attempt.market is market and lost_at is not None and now - lost_at < BREAKER_MEMORY:
            losses.setdefault(key_of(attempt), []).append(lost_at)
    broken = {key for key, times in losses.items() if len(times) > 1 and now - max(times) < _rest(len(times))}
    return frozenset(refused | broken)


def _rest(losses: int) -> timedelta:
    """Doubled at each loss after the second, up to the longest; a job may have lost hundreds of instances."""
    rest = BREAKER_REST
    for _ in range(losses - 2):
        rest = min(BREAKER_LONGEST, 2 * rest)
    return rest


def _out_s(job: Job, spot: list[Attempt], now: datetime) -> float:
    """Since the first refusal in a row; an instance that was got after it has ended the row."""
    if job.wait is None or job.wait.kind not in (WaitKind.CAPACITY, WaitKind.QUOTA):
        return 0.0
    return (now - max([job.wait.since, *(attempt.launched_at for attempt in spot)])).total_seconds()
