"""What it costs that a job works in another region than its buckets: bytes that cross, at the price of the region that sends them.

The agent counts what it reads from S3 and writes there; the image, which the machine pulls before there is an agent, is taken at ``ledger.IMAGE_GIB``.
"""

from dataclasses import dataclass
from datetime import datetime

from control_plane.core import ledger
from control_plane.core.ledger import IMAGE_GIB
from control_plane.core.records import Egress
from control_plane.core.state import Job

#: Taken for what a start reads, and for an hour's checkpoints, until the job has measured its own.
PRIOR_READ_GIB, PRIOR_WRITTEN_GIB_PER_H = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a start reads of the home region, the image included, and what an hour of work writes there."""

    read_gib: float
    written_gib_per_h: float


def traffic_of(job: Job, now: datetime) -> Traffic:
    """The most that any attempt has read, and the highest rate at which one that lived for ten minutes has written. Of a gang: all of it."""
    assert job.manifest is not None
    nodes = job.manifest.compute.nodes
    read = [ledger.moved_gib(attempt)[0] for attempt in job.attempts if attempt.trained_from is not None]
    written = [ledger.moved_gib(attempt)[1] / (lived_s / 3600) for attempt in job.attempts if (lived_s := ledger.runtime_s(attempt, now)) >= 600]
    return Traffic(max(read, default=PRIOR_READ_GIB * nodes) + IMAGE_GIB * nodes, max(written, default=PRIOR_WRITTEN_GIB_PER_H))


def move_usd(traffic: Traffic, egress: Egress | None) -> float:
    """One start in the region."""
    return traffic.read_gib * egress.in_usd_per_gib if egress is not None else 0.0


def usd_per_h(traffic: Traffic, egress: Egress | None) -> float:
    """An hour of work in the region, beside the instance."""
    return traffic.written_gib_per_h * egress.out_usd_per_gib if egress is not None else 0.0
