"""What is on record of an attempt: the plan of its launch, and its instances from the launch on. Part of the job's document, see ``state``."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from control_plane.core.failures import SPOT_INTERRUPTED
from jobspec.base import Document, InstanceId, UtcTime
from jobspec.heartbeat import Heartbeat
from jobspec.keys import writer_of
from jobspec.marker import Results
from jobspec.regions import region_of


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"


class Pool(Document):
    """Instance type x zone; with the plan's market, a pool of capacity. One subnet stands for its zone."""

    instance_type: str
    zone: str
    subnet_id: str


class Egress(Document):
    """US dollars a GiB that crosses regions: ``in`` what the instance reads of the home region, ``out`` what it writes there."""

    in_usd_per_gib: float
    out_usd_per_gib: float


class LaunchPlan(Document):
    """A launch call in full, saved before it is made. A retry repeats it unchanged until its outcome is known."""

    attempt: int
    #: Grows with each plan for the same attempt: a call that was answered "no capacity" needs a new client token.
    try_number: int
    market: Market
    #: Instances to start, all or none, of one pool.
    nodes: int = 1
    pools: tuple[Pool, ...]
    template_id: str
    template_version: str
    #: Unique id of the role that the template gives its instances: with the instance id it makes the ``writer``.
    role_id: str
    client_token: str
    deadline_at: UtcTime
    planned_at: UtcTime
    #: Of a plan in another region than the job's buckets.
    egress: Egress | None = None
    #: Another region has pools that may be asked next, should these refuse.
    elsewhere: bool = False

    @property
    def region(self) -> str:
        """A fleet call is one region's."""
        return region_of(self.pools[0].zone)


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


class Instance(Document):
    """What is known of one instance, from whoever told of it."""

    instance_id: InstanceId
    #: Its private IPv4 address; asked of the instances of a gang only, which must find each other.
    address: str = ""
    ticket_at: UtcTime | None = None
    #: The newest heartbeat, and when the control plane first saw it: two clocks, never compared with each other.
    heartbeat: Heartbeat | None = None
    heartbeat_seen_at: UtcTime | None = None
    warned_at: UtcTime | None = None
    rebalance_at: UtcTime | None = None
    stop_written_at: UtcTime | None = None
    #: When a terminate call was accepted for the first time; requested is not done.
    terminate_at: UtcTime | None = None
    #: First of the looks in a row that did not show the instance at all.
    missing_since: UtcTime | None = None
    #: Seen as shutting-down or terminated: billing has ended.
    gone_at: UtcTime | None = None
    state_reason: str = ""

    @property
    def is_taken(self) -> bool:
        """EC2 itself ends or has ended it: by its own word, or after its warning and without our asking."""
        return self.state_reason in SPOT_INTERRUPTED or (self.warned_at is not None and self.terminate_at is None)


class Attempt(Instance):
    """One instance, or a gang of them that trains together, from the answer of its launch on.

    The facts of an instance are here those of the first, which leads: its checkpoints, its marker and its progress are the attempt's.
    """

    plan: LaunchPlan
    #: The other instances of a gang, in order of rank; none for an instance that trains alone.
    others: tuple[Instance, ...] = ()
    instance_type: str
    zone: str
    #: The price of one instance at launch; ``price_changes`` are those since, oldest first, known up to ``priced_at``.
    usd_per_h: float
    on_demand_usd_per_h: float
    launched_at: UtcTime
    price_changes: tuple[PriceChange, ...] = ()
    priced_at: UtcTime | None = None
    trained_from: TrainedFrom | None = None
    #: When it was to hand over to a replacement that stands ready beside it.
    relieved_at: UtcTime | None = None
    #: When one of several instances was first known to be lost, or about to be: the gang ends whole.
    broken_at: UtcTime | None = None
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
        """The leader's ``aws:userid``: its own prefix in the buckets."""
        return writer_of(self.plan.role_id, self.instance_id)

    def writer_of(self, instance_id: str) -> str:
        """The ``aws:userid`` of one of its instances."""
        return writer_of(self.plan.role_id, instance_id)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of them in order of rank, the leader first."""
        return (self, *self.others)

    def instance(self, instance_id: str) -> Instance | None:
        return next((one for one in self.instances if one.instance_id == instance_id), None)

    def with_instance(self, instance_id: str, facts: dict[str, Any]) -> "Attempt":
        """The attempt with those facts of one of its instances replaced."""
        if instance_id == self.instance_id:
            return self.model_copy(update=facts)
        others = tuple(one.model_copy(update=facts) if one.instance_id == instance_id else one for one in self.others)
        return self.model_copy(update={"others": others})

    @property
    def is_open(self) -> bool:
        """Its story is not concluded yet: a marker may still come."""
        return self.end is None

    @property
    def over_at(self) -> datetime | None:
        """When the last of its instances was seen gone; None while one of them is not known to be."""
        times = [one.gone_at for one in self.instances if one.gone_at is not None]
        return max(times) if len(times) == len(self.instances) else None

    @property
    def first_warned_at(self) -> datetime | None:
        return min((one.warned_at for one in self.instances if one.warned_at is not None), default=None)

    @property
    def leaves_at(self) -> datetime | None:
        """Since when it saves and goes, for EC2 takes an instance back, one is lost, or a replacement stands ready: another may live beside it."""
        return self.broken_at or self.first_warned_at or self.relieved_at

    @property
    def leaves(self) -> bool:
        return self.leaves_at is not None

    @property
    def serves(self) -> bool:
        """It does the job's work and is not under notice: no other is wanted beside it."""
        return self.end is None and not self.leaves and all(one.gone_at is None and one.terminate_at is None for one in self.instances)
