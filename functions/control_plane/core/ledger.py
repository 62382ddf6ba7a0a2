"""Money and time, derived from the attempts: estimates from launch times and the prices in force, as the receipt says.

Billing rules (EC2 guide, "Billing for interrupted Spot Instances"): per second; a spot instance that EC2 itself interrupts in
its first hour is free (Linux). A spot instance pays the price that is in force while it runs (the same guide, "Spot Instance
pricing history"), so its hours are priced piece by piece. What crosses
regions is counted by the agent. Volumes are estimated and named apart; S3 and other transfer are not counted.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from control_plane.core.months import month_of, next_month
from control_plane.core.records import Attempt, Instance, Market
from control_plane.core.state import Job, NoticeKind
from jobspec import on_demand
from jobspec.instances import PRICES_AS_OF
from jobspec.regions import TRANSFER_AS_OF, region_of
from jobspec.stages import before_training_s
from jobspec.status import Receipt

FREE_IF_INTERRUPTED_WITHIN = timedelta(hours=1)
#: How far ahead money is watched: the next tick, and the last save that a stop allows.
WATCH_AHEAD_S = 180.0
#: A spot price moves a few times a day: it is asked for again when so much of an attempt is priced by an old one.
PRICE_EVERY = timedelta(hours=1)
#: The same once the instance is gone: what is left is priced once, for good.
PRICE_LAST = timedelta(minutes=15)
#: gp3, us-east-1 (EBS pricing page, read 2026-11): dollars a GiB and month. A month is 730 hours, as on AWS's bills.
VOLUME_USD_PER_GIB_MONTH = 0.08
HOURS_PER_MONTH = 730.0
GIB = float(2**30)
#: What a start in another region pulls of the image from the home region's registry: an estimate, as its registry holds it.
IMAGE_GIB = 6.0


def runtime_s(attempt: Attempt, now: datetime) -> float:
    """Seconds from launch to the end of billing, or to now."""
    return max(0.0, (_end(attempt, now) - attempt.launched_at).total_seconds())


def is_free(attempt: Attempt) -> bool:
    """EC2 took it back within its first hour, whole: that hour is not billed."""
    return all(_is_free(attempt, instance) for instance in attempt.instances)


def _is_free(attempt: Attempt, instance: Instance) -> bool:
    return (
        attempt.market is Market.SPOT
        and attempt.ended_by == "ec2"
        # Of a gang, EC2 may take one only; the others are ended by us, and billed.
        and (instance.is_taken or not attempt.others)
        and instance.gone_at is not None
        and instance.gone_at - attempt.launched_at < FREE_IF_INTERRUPTED_WITHIN
    )


def cost_usd(attempt: Attempt, now: datetime) -> float:
    """The attempt's estimated instance cost in dollars, the first-hour rule applied once EC2 has ended it."""
    return sum(_usd(piece) for piece in _paid_pieces(attempt, now))


def egress_usd(attempt: Attempt) -> float:
    """What crossed regions for the attempt, by its agents' count and the prices of its plan; billed also where the instances are free."""
    rates = attempt.plan.egress
    if rates is None:
        return 0.0
    read, written = moved_gib(attempt)
    return (len(attempt.instances) * IMAGE_GIB + read) * rates.in_usd_per_gib + written * rates.out_usd_per_gib


def moved_gib(attempt: Attempt) -> tuple[float, float]:
    """What the attempt's agents have read of S3, and written there."""
    beats = [one.heartbeat for one in attempt.instances if one.heartbeat is not None]
    return sum(beat.read_bytes for beat in beats) / GIB, sum(beat.written_bytes for beat in beats) / GIB


def usd_per_h_now(attempt: Attempt) -> float:
    """The price of one of its instances that was last seen."""
    return attempt.price_changes[-1].usd_per_h if attempt.price_changes else attempt.usd_per_h


Piece = tuple[datetime, datetime, float]


def _paid_pieces(attempt: Attempt, now: datetime) -> Iterator[Piece]:
    """Each instance's billed time by the price in force: begin, end, dollars an hour. Changes are clipped to the instance's time."""
    for instance in attempt.instances:
        if not _is_free(attempt, instance):
            yield from _pieces(attempt, instance.gone_at or now)


def _pieces(attempt: Attempt, until: datetime) -> Iterator[Piece]:
    end = max(attempt.launched_at, until)
    steps = [(attempt.launched_at, attempt.usd_per_h)]
    steps += [(change.at, change.usd_per_h) for change in attempt.price_changes if attempt.launched_at < change.at < end]
    for (begin, usd_per_h), (until, _) in pairwise([*steps, (end, 0.0)]):
        yield begin, until, usd_per_h


def _usd(piece: Piece) -> float:
    begin, end, usd_per_h = piece
    return (end - begin).total_seconds() / 3600 * usd_per_h


def _end(attempt: Attempt, now: datetime) -> datetime:
    return attempt.over_at or now


def price_is_due(attempt: Attempt, now: datetime) -> bool:
    """A spot attempt's price history is to be read: while it runs every hour, and once more after its end."""
    if attempt.market is not Market.SPOT:
        return False
    unpriced = _end(attempt, now) - (attempt.priced_at or attempt.launched_at)
    return unpriced >= (PRICE_EVERY if attempt.over_at is None else PRICE_LAST)


def job_cost_usd(job: Job, now: datetime) -> float:
    """Instances and what crossed regions for them."""
    return sum(cost_usd(attempt, now) + egress_usd(attempt) for attempt in job.attempts)


def by_month(job: Job, now: datetime) -> dict[str, float]:
    """The job's cost by calendar month (UTC), ``2026-11``: where an attempt runs over midnight of the last day, it is parted there.

    What crossed regions counts in the month of the attempt's end.
    """
    months: dict[str, float] = {}
    for attempt in job.attempts:
        if egress := egress_usd(attempt):
            last = month_of(_end(attempt, now))
            months[last] = months.get(last, 0.0) + egress
        for begin, end, usd_per_h in _paid_pieces(attempt, now):
            while begin < end:
                until = min(end, next_month(begin))
                month = month_of(begin)
                months[month] = months.get(month, 0.0) + _usd((begin, until, usd_per_h))
                begin = until
    return months


def job_runtime_s(job: Job, now: datetime) -> float:
    """Seconds of all attempts together; a gang's time counts once."""
    return sum(runtime_s(attempt, now) for attempt in job.attempts)


def burn_usd_per_h(job: Job) -> float:
    """Dollars an hour of the instances that are not known to be gone."""
    return sum(usd_per_h_now(attempt) for attempt in job.attempts for instance in attempt.instances if instance.gone_at is None)


def projected_usd(job: Job, now: datetime) -> float:
    """The cost if every live instance goes on until the next tick and a last save are over."""
    return job_cost_usd(job, now) + burn_usd_per_h(job) * WATCH_AHEAD_S / 3600


# --- the receipt ----------------------------------------------------------------------------------------------------


def second_start_s(attempt: Attempt) -> float:
    """Seconds that a later attempt spent before its first step: an uninterrupted run would not have needed them."""
    if attempt.heartbeat is None or attempt.number == 1:
        return 0.0
    return before_training_s(attempt.heartbeat.stages_s)


def lost_s(job: Job, attempt: Attempt) -> float:
    """Seconds of the attempt's training that its successor had to do again, by the attempt's own pace."""
    after = next((other for other in job.attempts if other.number > attempt.number and other.heartbeat is not None), None)
    beat = attempt.heartbeat
    if beat is None or after is None or after.heartbeat is None or after.heartbeat.first_step is None:
        return 0.0
    done = beat.step - (beat.first_step or 0)
    again = min(beat.step - after.heartbeat.first_step, done)
    if done <= 0 or again <= 0:
        return 0.0
    trained_s = (beat.at - attempt.launched_at).total_seconds() - before_training_s(beat.stages_s)
    return max(0.0, trained_s) / done * again


def _lived_s(attempt: Attempt, instance: Instance, now: datetime) -> float:
    return max(0.0, ((instance.gone_at or now) - attempt.launched_at).total_seconds())


def receipt(job: Job, now: datetime, volume_gib: int) -> Receipt:
    """What the job cost so far, beside what the same work would have cost on-demand: without second starts and work done twice."""
    cost = job_cost_usd(job, now)
    lost = {attempt.number: lost_s(job, attempt) for attempt in job.attempts}
    on_demand = sum(
        max(0.0, runtime_s(attempt, now) - second_start_s(attempt) - lost[attempt.number]) / 3600 * attempt.on_demand_usd_per_h * len(attempt.instances)
        for attempt in job.attempts
    )
    volume_s = sum(_lived_s(attempt, instance, now) for attempt in job.attempts for instance in attempt.instances)
    return Receipt(
        cost_usd=round(cost, 4),
        on_demand_usd=round(on_demand, 4),
        saved_usd=round(on_demand - cost, 4),
        saved_percent=round(100 * (on_demand - cost) / on_demand, 1) if on_demand else 0.0,
        egress_usd=round(sum(egress_usd(attempt) for attempt in job.attempts), 4),
        volumes_usd=round(volume_s / 3600 / HOURS_PER_MONTH * volume_gib * VOLUME_USD_PER_GIB_MONTH, 4),
        runtime_s=round(job_runtime_s(job, now), 1),
        lost_s=round(sum(lost.values()), 1),
        free_attempts=sum(is_free(attempt) for attempt in job.attempts),
        note=f"Estimated: instance seconds at the spot price in force, on-demand prices{_of_regions(job)} as of "
        f"{PRICES_AS_OF}. Volumes are apart, at us-east-1's price; S3 and transfer{_but_egress(job)} are not included.",
    )


def _of_regions(job: Job) -> str:
    """Where the job's instances ran, and of which of these places the price is a guess."""
    places = {(region_of(attempt.zone), attempt.instance_type) for attempt in job.attempts}
    guessed = {region for region, name in places if not on_demand.is_listed(name, region)}
    told = (f"{region} (not known: taken as the dearest region's)" if region in guessed else region for region in sorted({region for region, _ in places}))
    return f" of {', '.join(told)}" if places else ""


def _but_egress(job: Job) -> str:
    if all(attempt.plan.egress is None for attempt in job.attempts):
        return ""
    return f" other than between regions (estimated by the agent's count, at prices of {TRANSFER_AS_OF})"


#: Share of budget_usd at which the owner is told.
BUDGET_WARNING = 0.8


def budget_alert_due(job: Job, now: datetime) -> bool:
    """True while an active job has spent most of its budget and its owner was not told yet."""
    if job.ended or job.manifest is None or any(notice.kind is NoticeKind.BUDGET for notice in job.notices):
        return False
    wanted = NoticeKind.BUDGET.value in job.manifest.notify.on
    return wanted and job_cost_usd(job, now) >= BUDGET_WARNING * job.manifest.limits.budget_usd
