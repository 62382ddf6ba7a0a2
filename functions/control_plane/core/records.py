"""What is on record of an attempt: the plan of its launch, and its instance from the launch on. Part of the job's document, see ``state``."""

from enum import StrEnum
from typing import Literal

from jobspec.base import Document, InstanceId, UtcTime
from jobspec.heartbeat import Heartbeat
from jobspec.keys import writer_of
from jobspec.marker import Results


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"


class Pool(Document):
    """Instance type x zone; with the plan's market, a pool of capacity. One subnet stands for its zone."""

    instance_type: str
    zone: str
    subnet_id: str


class LaunchPlan(Document):
    """A launch call in full, saved before it is made. A retry repeats it unchanged until its outcome is known."""

    attempt: int
    #: Grows with each plan for the same attempt: a call that was answered "no capacity" needs a new client token.
    try_number: int
    market: Market
    pools: tuple[Pool, ...]
    template_id: str
    template_version: str
    #: Unique id of the role that the template gives its instances: with the instance id it makes the ``writer``.
    role_id: str
    client_token: str
    deadline_at: UtcTime
    planned_at: UtcTime


class AttemptEnd(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DIED = "died"
    STOPPED = "stopped"
    RELIEVED = "relieved"


EndedBy = Literal["ec2", "dropforge", "instance", "unknown"]


class PriceChange(Document):
    """From ``at`` on the pool's spot price is this; seen in EC2's price history while the attempt ran, or after."""

    at: UtcTime
    usd_per_h: float


class TrainedFrom(Document):
    """The first word of training: the step and the instance's own time, and when the control plane saw it."""

    at: UtcTime
    step: int
    seen_at: UtcTime


class Attempt(Document):
    """One instance, from the answer of its launch on."""

    plan: LaunchPlan
    instance_id: InstanceId
    instance_type: str
    zone: str
    #: The price at launch; ``price_changes`` are those since, oldest first, known up to ``priced_at``.
    usd_per_h: float
    on_demand_usd_per_h: float
    launched_at: UtcTime
    price_changes: tuple[PriceChange, ...] = ()
    priced_at: UtcTime | None = None
    ticket_at: UtcTime | None = None
    #: The newest heartbeat, and when the control plane first saw it: two clocks, never compared with each other.
    heartbeat: Heartbeat | None = None
    heartbeat_seen_at: UtcTime | None = None
    trained_from: TrainedFrom | None = None
    warned_at: UtcTime | None = None
    rebalance_at: UtcTime | None = None
    #: When it was to hand over to a replacement that stands ready beside it.
    relieved_at: UtcTime | None = None
    stop_written_at: UtcTime | None = None
    #: When a terminate call was accepted for the first time; requested is not done.
    terminate_at: UtcTime | None = None
    #: First of the looks in a row that did not show the instance at all.
    missing_since: UtcTime | None = None
    #: Seen as shutting-down or terminated: billing has ended.
    gone_at: UtcTime | None = None
    state_reason: str = ""
    end: AttemptEnd | None = None
    end_reason: str = ""
    ended_by: EndedBy | None = None
    results: Results | None = None

    @property
    def number(self) -> int:
        return self.plan.attempt

    @property
    def market(self) -> Market:
        return self.plan.market

    @property
    def writer(self) -> str:
        """The instance's ``aws:userid``: its own prefix in the buckets."""
        return writer_of(self.plan.role_id, self.instance_id)

    @property
    def is_open(self) -> bool:
        """Its story is not concluded yet: a marker may still come."""
        return self.end is None

    @property
    def leaves(self) -> bool:
        """It saves and goes, for EC2 takes it back or a replacement stands ready: another instance may live beside it."""
        return self.warned_at is not None or self.relieved_at is not None

    @property
    def serves(self) -> bool:
        """It does the job's work and is not under notice: no other instance is wanted beside it."""
        return self.end is None and not self.leaves and self.gone_at is None and self.terminate_at is None
