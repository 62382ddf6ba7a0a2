"""Spot, on-demand or patience: the choice itself, a function of a few numbers. ``placement`` asks it in Lambda, ``bench/spot`` replays it.

The safety net comes first. Slack is what is left of the time when the work and one more start are taken off it. Whoever waits must
have the slack for it, and whoever starts on spot the slack for a second start: then on-demand is always still in time. So no job is
late that on-demand from its first moment would have finished in time.

The rest is money, by how long spot is likely to last. A pool that was seen to last lasts on, and one that was just lost is likely to
be lost again (hazards fall with age), so a pool's life is estimated from what it did, and what it did is forgotten with time:
``(prior + hours seen up) / (prior losses + losses)``. Spot is worth a start only where that life pays for it; a job waits for spot
only for a while after each loss, and only with slack to spare for what is yet to come. Formulas, sources and the reason of each
knob's value: docs/placement.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["spot", "on-demand", "wait"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """Tuned on the first half of the traces (docs/placement.md), and frozen."""

    #: What a pool did is forgotten with this time constant.
    memory_s: float = 3.0 * 3600
    #: A pool of which nothing is known lasts as if it had been seen up for so long, with so many losses.
    prior_up_s: float = 0.85 * 3600
    prior_losses: float = 1.0
    #: A start on spot pays from this many times the break-even life on; leaving on-demand for it from this many.
    take_life: float = 0.5
    return_life: float = 3.3
    #: Slack kept back before a job waits, as a share of the work left: below it slack is scarce. A wait may take so many times what is
    #: above it for each pool that there is (any of them may come back), and no longer than this.
    wait_reserve: float = 0.14
    wait_share: float = 1.5
    wait_most_s: float = 6.0 * 3600
    #: How much the start weighs when pools are compared.
    start_weight: float = 1.0
    #: How much of their lives the other pools that have capacity add to a pool's: whoever loses it moves to them.
    company: float = 0.4


KNOBS = Knobs()


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a pool: seconds seen with capacity and losses seen, both fading."""

    up_s: float = 0.0
    losses: float = 0.0


def watched(record: Record, passed_s: float, *, up: bool, lost: bool = False, knobs: Knobs = KNOBS) -> Record:
    """The record after ``passed_s`` more seconds in which the pool had capacity or not, and was lost at their end or not."""
    fades = math.exp(-passed_s / knobs.memory_s)
    return Record(record.up_s * fades + (passed_s if up else 0.0), record.losses * fades + lost)


def life_s(record: Record, age_s: float, knobs: Knobs = KNOBS) -> float:
    """How much longer the pool is likely to keep its capacity, having had it for ``age_s``."""
    return (knobs.prior_up_s + record.up_s + age_s) / (knobs.prior_losses + record.losses)


@dataclass(frozen=True, slots=True)
class SpotOffer:
    """A pool that has capacity, or may be asked for it."""

    usd_per_h: float
    life_s: float
    #: What a start there costs beside the instance's hours: data that crosses regions.
    move_usd: float = 0.0


@dataclass(slots=True)
class Situation:
    """A job's moment. Seconds, and dollars an hour."""

    work_left_s: float
    #: To the deadline.
    time_left_s: float
    #: From the start of an instance to its first new step, what it has to do again included.
    delay_s: float
    #: The same for leaving on-demand: shorter where the replacement starts beside it.
    return_delay_s: float
    #: Until the next chance to decide, and how long a loss may go unseen.
    step_s: float
    blind_s: float
    running: Kind
    #: How long spot has been out, to our knowledge.
    out_s: float
    on_demand_usd_per_h: float
    offers: Sequence[SpotOffer]
    #: How many pools there are, whether they have capacity or not.
    pools: int

    @property
    def slack_s(self) -> float:
        """What is left of the time when the work and one more start are taken off it."""
        return self.time_left_s - self.work_left_s - self.delay_s


@dataclass(frozen=True, slots=True)
class Choice:
    """``pool``: index of the best offer, for spot that is to be started; -1 otherwise."""

    kind: Kind
    pool: int
    reason: str


def choose(now: Situation, knobs: Knobs = KNOBS) -> Choice:
    """What the job should be on from now on. A running spot instance is never left by choice."""
    if now.running == "spot":
        return Choice("spot", -1, "spot goes on")
    slack_s, best = now.slack_s, best_of(now, knobs)
    if now.running == "on-demand":
        if best >= 0 and slack_s >= now.return_delay_s + now.blind_s and pays(now, now.offers[best], knobs):
            return Choice("spot", best, "spot lasts long enough to pay for the change")
        return Choice("on-demand", -1, "on-demand goes on")
    if best >= 0 and slack_s >= now.delay_s + now.blind_s and pays(now, now.offers[best], knobs):
        return Choice("spot", best, "spot is to be had")
    if slack_s >= now.step_s + now.blind_s and now.out_s < longest_wait_s(now, knobs):
        return Choice("wait", -1, "there is time to wait for spot")
    return Choice("on-demand", -1, "no time is left to wait for spot")


def pays(now: Situation, offer: SpotOffer, knobs: Knobs = KNOBS) -> bool:
    """The offer's life is worth its start. Break-even: ``life = delay * k / (k - p)`` (NSDI'24, the lifetime oracle); egress on top, as SkyNomad has it."""
    gain = now.on_demand_usd_per_h - offer.usd_per_h
    if gain <= 0:
        return False
    if now.running == "on-demand":
        times, delay_s = knobs.return_life * scarcity(now, knobs), now.return_delay_s
    else:
        times, delay_s = knobs.take_life, now.delay_s
    others_s = sum(one.life_s for one in now.offers) - offer.life_s
    lasts_s = min(offer.life_s + knobs.company * others_s, now.work_left_s)
    return lasts_s * gain >= times * delay_s * now.on_demand_usd_per_h + offer.move_usd * 3600


def scarcity(now: Situation, knobs: Knobs = KNOBS) -> float:
    """1 while there is more slack than the reserve, and more the less there is: it pays for few changes only, and they are to be those that last."""
    return math.sqrt(max(1.0, knobs.wait_reserve * now.work_left_s / max(now.slack_s, 1.0)))


def longest_wait_s(now: Situation, knobs: Knobs = KNOBS) -> float:
    """How long after its loss spot is waited for."""
    return min(knobs.wait_share * now.pools * (now.slack_s - knobs.wait_reserve * now.work_left_s), knobs.wait_most_s)


def best_of(now: Situation, knobs: Knobs = KNOBS) -> int:
    """The offer that saves most for each hour of its life, its start and its egress taken off; -1 where there is none."""
    best, best_usd = -1, -math.inf
    for index, offer in enumerate(now.offers):
        usd = (1.0 - min(1.0, knobs.start_weight * now.delay_s / max(offer.life_s, 1.0))) * (now.on_demand_usd_per_h - offer.usd_per_h)
        usd -= offer.move_usd * 3600 / max(offer.life_s, 1.0)
        if usd > best_usd:
            best, best_usd = index, usd
    return best
