"""How long to wait between two saves: a function of what a save costs, how long it is unsafe, and how likely the instance is lost.

A save costs the time in which no step is taken, ``c``; a loss costs what was done since the newest durable checkpoint. With
a hazard ``h`` (losses a second) the best time between two saves is ``sqrt(2 c / h)`` (Young, "A first order approximation to the
optimum checkpoint interval", CACM 17(9), 1974; Daly, FGCS 22, 2006, section 3, has the terms of higher order: below 3 % here). Three
things are added to it:

* A loss with a warning that leaves time for a last save costs nothing. With a share ``r`` of those: ``sqrt(2 c / (h (1 - r)))``.
* A save that is written and uploaded beside the training is durable only ``p`` seconds later. Nothing is gained by saving
  more often than one save after the other gets away: the interval is never below ``p``.
* Lives of spot instances are heavy-tailed: who has lived long lives on. So ``h`` falls with the instance's age, as the placement
  has it (``control_plane.core.strategy.life_s``, tuned on traces; docs/placement.md): a new instance lives for another 51
  minutes, one that has lived for ``age`` for ``age`` more, in the mean: ``h = 1 / (51 min + age)``.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from jobspec.base import Bytes, Document, Step

Market = Literal["spot", "on-demand"]

#: ``strategy.Knobs.prior_up_s``; a test holds the two together.
SPOT_PRIOR_LIFE_S = 0.85 * 3600
#: On-demand instances fail, and so do processes on them. An assumption, on the safe side: once a week.
ON_DEMAND_LIFE_S = 7 * 86400.0
#: Share of the interruptions whose warning comes early enough: EC2 gives two minutes, best effort. An assumption, on the safe side.
WARNED = 0.9
#: Of a notice's 120 s: polling, a step that is finished, and a margin are taken off.
LAST_SAVE_S = 95.0
#: A save is nine requests to S3 and more: oftener than once a minute they would cost 1 % of the cheapest GPU.
LEAST_S = 60.0
#: Losses of every kind together are rare, but never worth more than this much work.
LONGEST_S = 1800.0
#: What ``auto`` is taken for where nothing is measured yet, by those who only reckon with it.
ASSUMED_S = 600


#: In the run folder, beside the run file.
UPLOADED_NAME = "published.json"


class Uploaded(Document):
    """``published.json``: the agent tells the trainer how long the last upload took."""

    version: Literal[1] = 1
    step: Step
    bytes: Bytes
    seconds: float = Field(ge=0, le=10**8, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, as measured. ``stall_s``: no step is taken; ``write_s``: from the snapshot until it is on the disk; ``upload_s``: until it is in S3."""

    stall_s: float
    write_s: float
    upload_s: float | None = None

    @property
    def away_s(self) -> float:
        return self.write_s + (self.upload_s or 0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds from one save to the next, and why, for a person."""

    seconds: float
    reason: str


def life_s(market: Market, age_s: float) -> float:
    """How much longer the instance is likely to last: 1 / hazard."""
    return SPOT_PRIOR_LIFE_S + max(0.0, age_s) if market == "spot" else ON_DEMAND_LIFE_S


def warned_share(market: Market, costs: Costs) -> float:
    """``r``: the share of losses that cost no work. 0 while it is not measured that a last save gets away within a notice."""
    in_time = market == "spot" and costs.upload_s is not None and costs.away_s <= LAST_SAVE_S
    return WARNED if in_time else 0.0


def interval(costs: Costs | None, market: Market, age_s: float) -> Interval:
    """The time between two saves; LEAST_S before any cost is known, so that the first save is early and is the measurement."""
    if costs is None:
        return Interval(LEAST_S, "the first save comes early, to be measured")
    life, warned = life_s(market, age_s), warned_share(market, costs)
    best = math.sqrt(2 * costs.stall_s * life / (1 - warned))
    told = f"a save stalls {costs.stall_s:.2g} s, this instance lasts another {_span(life)} in the mean"
    if market == "spot":
        told += f" and {warned:.0%} of its losses leave time for a last save"
    if (least := max(LEAST_S, costs.away_s)) >= min(best, LONGEST_S):
        why = "one save must get away before the next" if least > LEAST_S else "no oftener than once a minute"
        return Interval(least, f"{told}: every {best:.0f} s would be best, but {why}")
    if best > LONGEST_S:
        return Interval(LONGEST_S, f"{told}: every {best:.0f} s would do, but no more than {_span(LONGEST_S)} of work is risked")
    return Interval(best, told)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
