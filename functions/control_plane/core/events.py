"""What happened, in the past tense. Hints only record facts; ``Looked`` is the mechanism that acts on them.

So the same job ends the same way whether every hint came, twice, late, in any order, or none at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from jobspec.regions import region_of

if TYPE_CHECKING:
    # Named, and not used: a door that hears of no job starts without their models.
    from control_plane.core.failures import RefusalKind
    from control_plane.core.records import Egress, LaunchPlan, Pool, PriceChange
    from control_plane.core.state import Job, ManifestRef
    from jobspec.heartbeat import Heartbeat
    from jobspec.manifest import Manifest
    from jobspec.marker import CompletionMarker


@dataclass(frozen=True, slots=True)
class InstanceSight:
    """An instance as DescribeInstances showed it; ``state`` is EC2's word (pending ... terminated)."""

    instance_id: str
    state: str
    tags: dict[str, str]
    launched_at: datetime
    instance_type: str
    zone: str
    lifecycle: str = "on-demand"
    #: EC2's StateReason code, such as Server.SpotInstanceTermination.
    state_reason: str = ""
    #: Its private IPv4 address; EC2 shows none of an instance that has ended.
    address: str = ""


@dataclass(frozen=True, slots=True)
class MarkerSight:
    """An attempt's marker: verified against its files, or refused with the reason."""

    marker: CompletionMarker | None
    problem: str = ""
    #: It will never be read otherwise: a marker is written once. False where only its files are not there (yet).
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Offers:
    """Where a launch may go in a region: one subnet a zone, and the pinned launch template."""

    #: zone -> subnet id
    subnets: dict[str, str]
    template_id: str
    template_version: str
    #: Unique id of the role that the template gives its instances.
    role_id: str
    #: US dollars an hour by (type, zone), as they are now; None where they could not be read: then typical ones count.
    spot_usd_per_h: Mapping[tuple[str, str], float] | None = None
    #: What crosses regions costs, where this is not the home region.
    egress: Egress | None = None
    #: What the project's other regions offer, as far as they could be read.
    peers: tuple[Offers, ...] = ()

    @property
    def region(self) -> str:
        return region_of(min(self.subnets, default=""))


@dataclass(frozen=True, slots=True)
class Rules:
    """The stack's own settings, in seconds."""

    #: From a spot warning to the end of the instance; EC2's is 120, the local cloud's may be shorter.
    notice_s: float = 120.0
    #: Longest time from a launch to the first heartbeat: boot, driver start, image pull.
    boot_s: float = 1200.0
    #: Longest silence of a heartbeat before the instance is given up.
    stale_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Before:
    """The job that ``after`` names, None where there is none; and whose result it gives: its own, where it has succeeded."""

    job: Job | None
    source: Job | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """One whole look at the job's world. What could not be read is None and decides nothing.

    Instances are read before heartbeats and markers: whoever is seen gone has its last words in this very look.
    """

    instances: tuple[InstanceSight, ...] | None
    #: By instance id, for the attempts that are still open: None where none is there, no entry where it could not be read.
    heartbeats: dict[str, Heartbeat | None] = field(default_factory=dict)
    #: By instance id: None where the marker was looked for and is not there.
    markers: dict[str, MarkerSight | None] = field(default_factory=dict)
    manifest_present: bool | None = None
    #: A person has cancelled this one job of a sweep or a schedule. False also where it could not be read.
    withdrawn: bool = False
    offers: Offers | None = None
    #: Why the project starts nothing new, or None.
    hold: str | None = None
    #: Why the job may not start an instance for now: as many jobs run as may. None where it may, or needs no turn.
    turn: str | None = None
    #: By notice id, for the notices that were claimed and not marked: whether the topic's second subscriber saw them.
    in_ledger: dict[str, bool] = field(default_factory=dict)
    #: By instance id, for the attempts whose price was due: the changes of their pool's spot price since it was last known.
    prices: dict[str, tuple[PriceChange, ...]] = field(default_factory=dict)
    #: For a job that waits for another one.
    before: Before | None = None
    rules: Rules = Rules()


@dataclass(frozen=True, slots=True)
class FamilyLooked:
    """One whole look at the jobs of a parent. What could not be read is missing, or None, and decides nothing."""

    #: By job id, of those that the parent's ledger is not done with.
    children: dict[str, Job]
    manifest_present: bool | None = None
    #: As in ``Looked``: of a sweep that a schedule has put.
    withdrawn: bool = False
    in_ledger: dict[str, bool] = field(default_factory=dict)
    #: By number, of the jobs of a sweep that this look may create (``sweeps.next_up``): whether a person has cancelled that one.
    next_up: dict[int, bool] = field(default_factory=dict)
    #: By the name of a job to be created: the active job that has it.
    taken: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ManifestDeleted:
    pass


@dataclass(frozen=True, slots=True)
class ChildWithdrawn:
    """A person has cancelled one job of a sweep that has no record of its own yet."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """Another manifest lies where a schedule's did."""

    manifest: Manifest
    ref: ManifestRef


@dataclass(frozen=True, slots=True)
class InterruptionWarned:
    instance_id: str


@dataclass(frozen=True, slots=True)
class RebalanceRecommended:
    instance_id: str


@dataclass(frozen=True, slots=True)
class InstanceChanged:
    """EC2 said so in an event; ``state`` is its word."""

    instance_id: str
    state: str


@dataclass(frozen=True, slots=True)
class BudgetAlerted:
    """The ledger's own alert came back over the bus: the job has spent most of its budget."""


@dataclass(frozen=True, slots=True)
class LaunchedInstance:
    instance_id: str
    pool: Pool
    usd_per_h: float


@dataclass(frozen=True, slots=True)
class LaunchSucceeded:
    """``instances`` holds as many as were asked for, normally; whatever is beyond them is ended at once, and so are too few."""

    plan: LaunchPlan
    instances: tuple[LaunchedInstance, ...]


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """EC2 answered, and nothing was started. ``pools`` are those that refused for want of capacity."""

    plan: LaunchPlan
    kind: RefusalKind
    message: str
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketWritten:
    instance_id: str


@dataclass(frozen=True, slots=True)
class StopWritten:
    instance_id: str


@dataclass(frozen=True, slots=True)
class TerminationAnswered:
    """EC2 accepted the call; ``state`` is the instance's state in its answer, often shutting-down."""

    instance_id: str
    state: str


@dataclass(frozen=True, slots=True)
class NoticePublished:
    notice_id: str


@dataclass(frozen=True, slots=True)
class NoticeRefused:
    """The topic did not take the e-mail: it is owed as before, and the next look tries again."""

    notice_id: str


@dataclass(frozen=True, slots=True)
class LastStatusWritten:
    pass


Hint = ManifestDeleted | ChildWithdrawn | Rescheduled | InterruptionWarned | RebalanceRecommended | InstanceChanged | BudgetAlerted
Answer = LaunchSucceeded | LaunchRefused | TicketWritten | StopWritten | TerminationAnswered | NoticePublished | NoticeRefused | LastStatusWritten
Event = Hint | Answer | Looked | FamilyLooked


@dataclass(frozen=True, slots=True)
class Ignored:
    """A raw event that is nothing to us; a value, not an exception."""

    reason: str
