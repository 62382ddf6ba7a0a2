"""What the driver needs of the world, in small protocols. ``adapters`` has them on AWS.

Errors that a caller must tell apart are named here; anything else that an adapter raises is a passing fault, and the
event that led to it is delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    # Named, and not used: a door that needs one small port starts without everybody's models.
    from control_plane.core.events import InstanceSight, LaunchRefused, LaunchSucceeded, Offers
    from control_plane.core.records import LaunchPlan, PriceChange
    from control_plane.core.state import Job
    from jobspec.operator import Hold


class StaleVersion(Exception):
    """Another driver saved the job first: load it again and decide again."""


class OutcomeUnknown(Exception):
    """A call may or may not have had its effect (timeout, 5xx): look, and repeat the same plan."""


class Refused(Exception):
    """AWS answered no: the call had no effect."""


class NoTurn(Exception):
    """As many jobs run as may run at a time: this one waits for its turn."""


class Throttled(Refused):
    """AWS asked for patience; the call had no effect."""


class NameTaken(Exception):
    """A job that is to be created has the name of an active one. Nothing was written."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name} is {holder}'s name")
        self.name, self.holder = name, holder


@dataclass(frozen=True, slots=True)
class Held:
    """The name or the key of a new job is taken by an active one."""

    by: Job
    what: str


class JobStore(Protocol):
    """Jobs, and the pointers to them by name, manifest key and instance. Every read is consistent."""

    def load(self, job_id: str) -> Job | None: ...

    def create(self, job: Job) -> Job | Held | None:
        """Store a new job and take its name and key, all or nothing.

        None: created. A Job: of this very version of its manifest, created or changed by it before. Held: an active job has the name or the key.
        A job that was refused beside an active one takes neither name nor key, so nothing can hold it up.
        """

    def save(self, job: Job, births: tuple[Job, ...] = ()) -> Job:
        """Write ``job`` if the stored version is still ``job.version``; the answer has the next version.

        Instances that the job newly names are findable by ``find`` from the same moment on. A job that comes to hold a
        plan or an instance takes one of the turns in the same write, and gives it back in the write that ends this.
        ``births`` are created in the same write, and take their names. Raises StaleVersion, NoTurn where every turn is taken,
        and NameTaken.
        """

    def find(self, *, instance_id: str = "", bucket: str = "", key: str = "", name: str = "") -> str | None:
        """The id of the job that the instance, the manifest (bucket and key) or the name belongs to, ended or not."""

    def unsettled(self) -> Iterator[str]:
        """Ids of the jobs that are not settled, those that wait for a turn last, in their order. May miss one that was created a moment ago."""


class Turns(Protocol):
    """How many jobs may hold a plan or an instance at a time, and who is next."""

    def refusal(self, job: Job) -> str | None:
        """Why the job may not start an instance now, or None: it may, and ``save`` has the last word."""


class HoldStore(Protocol):
    """The project-wide hold on new launches."""

    def current(self) -> Hold | None: ...

    def lately(self) -> Hold | None:
        """The hold as it was a moment ago: for those who may start nothing anyway."""

    def put(self, hold: Hold) -> None:
        """Set the hold. To lift it, put one that is over."""


@dataclass(frozen=True, slots=True)
class MonthSpend:
    """``settled_usd``: what the jobs that are settled have cost in the month (``2026-11``, UTC). ``alerted``: its cap was told of."""

    month: str
    settled_usd: float
    alerted: bool


class SpendStore(Protocol):
    """The project's own ledger of a calendar month; settled jobs are added by the JobStore's save that settles them."""

    def month(self, month: str) -> MonthSpend: ...

    def mark_alerted(self, month: str, at: datetime) -> None:
        """Note that the month's cap was told of: once a month."""


class Fleet(Protocol):
    """EC2, as far as this project's own instances go."""

    def offers(self) -> Offers: ...

    def launch(self, plan: LaunchPlan, tags: dict[str, str]) -> LaunchSucceeded | LaunchRefused:
        """Make the plan's call. Raises OutcomeUnknown or Throttled; with the same plan the same call is made."""

    def instances(self, job_id: str | None = None) -> tuple[InstanceSight, ...]:
        """The project's instances that EC2 shows now, ended ones included while EC2 still shows them."""

    def terminate(self, instance_id: str) -> str | None:
        """Ask EC2 to end one instance; its state in the answer, or None where EC2 does not know it (yet).

        One id a call: a single bad id fails a whole batch, and then none is ended.
        """

    def price_changes(self, instance_type: str, zone: str, since: datetime) -> tuple[PriceChange, ...]:
        """The spot prices of that pool from ``since`` on, the one in force at ``since`` first, in any order."""

    def mark_stray(self, instance_id: str, at: datetime | None) -> None:
        """Tag an instance that no job seems to name; None clears the tag. Raises as ``terminate`` does."""


class Fleets(Protocol):
    """The project's regions: the home region, and its peers."""

    @property
    def names(self) -> tuple[str, ...]:
        """The peers' regions."""

    def offers(self) -> Offers:
        """The home region's offers, with those of its peers that can be read."""

    def at(self, zone: str) -> Fleet:
        """The fleet of the zone's region; the home region's for a region that is none of the project's."""

    def parts(self) -> tuple[Fleet, ...]:
        """Every region's fleet, the home region's first: what looks for instances looks into each."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    body: bytes
    version_id: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    size: int
    #: Hexadecimal sha256 of the whole object where S3 holds one (not for multipart uploads, whose checksum is composite).
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    modified_at: datetime


class Objects(Protocol):
    """S3."""

    def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        """The current object, at most ``max_bytes`` of it (``size`` is its whole size); None where there is none."""

    def head(self, bucket: str, key: str) -> ObjectFacts | None:
        """Facts of the object without its content, or None where there is no such object."""

    def put(self, bucket: str, key: str, body: bytes) -> None: ...

    def replace(self, bucket: str, key: str, body: bytes, etag: str | None) -> str | None:
        """Put if the object is still the one with that ETag (None: if there is none): its new ETag, or None where it is not."""

    def list(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """The current objects below the prefix."""


class Pages(Protocol):
    """S3, as far as the page of a job goes."""

    def last_bytes(self, bucket: str, key: str, version: str, max_bytes: int) -> bytes | None:
        """The end of the object in that version (empty: the current one), at most ``max_bytes``; None where there is nothing."""

    def etag(self, bucket: str, key: str) -> str | None: ...

    def replace(self, bucket: str, key: str, page: bytes, etag: str | None) -> bool:
        """Put an HTML page if the object is still the one with that ETag (None: if there is none); False where it is not."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An e-mail: a subject of at most 100 printable ASCII characters (SNS's limit), and plain text."""

    notice_id: str
    subject: str
    body: str
    #: For subscription filters: project, job, kind, state.
    attributes: dict[str, str]


class Post(Protocol):
    """The e-mail topic. It has no idempotency: every publish is an e-mail."""

    def publish(self, letter: Letter) -> None:
        """Raises Refused where it was not published; anything else that is raised leaves it open whether it was."""


class PublishLedger(Protocol):
    """What the topic's second subscriber saw: whether a notice was published, when our own record of it was lost."""

    def note(self, notice_id: str, message_id: str, at: datetime) -> int:
        """Note a delivery; how many publishes (message ids) of this notice were seen. A second delivery of one counts once."""

    def knows(self, notice_id: str) -> bool: ...


class Bus(Protocol):
    """The default event bus: events of our own, under the source ``dropforge.<room>``."""

    def put(self, *, source: str, detail_type: str, detail: dict[str, object]) -> None: ...


A = TypeVar("A")
B = TypeVar("B")


class Each(Protocol):
    """``map``, or the like of it by several threads: the answers in the order of the things."""

    def __call__(self, work: Callable[[A], B], things: Iterable[A], /) -> Iterator[B]: ...


class Counted(Protocol):
    """Takes what has happened, for the project's metrics, from any thread. Never raises, and calls nobody."""

    def __call__(self, name: str, count: int) -> None: ...


class Pause(Protocol):
    """Waits so many seconds."""

    def __call__(self, seconds: float, /) -> None: ...


class Clock(Protocol):
    def __call__(self) -> datetime: ...
