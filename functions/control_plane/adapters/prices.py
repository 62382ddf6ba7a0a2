"""What spot costs now in each pool of a region: one read for all offered types and all zones, kept for some minutes.

EC2 changes a spot price slowly ("adjusted gradually based on long-term trends", EC2 guide, "Spot Instances"), so a placement does not
need it newer than this; what is billed is read for each attempt, see ``ec2.Ec2Fleet.price_changes``.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from control_plane.ports import Clock
from jobspec.instances import GPU_INSTANCES

logger = logging.getLogger(__name__)

PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
#: How long a reading serves, and how long after a failed one the next is tried.
GOOD_FOR, AGAIN_AFTER = timedelta(minutes=15), timedelta(minutes=2)


class SpotPrices:
    """The prices in force in the region of a boto3 EC2 client."""

    def __init__(self, ec2: Any, now: Clock) -> None:
        self._ec2 = ec2
        self._now = now
        self._known: Mapping[tuple[str, str], float] | None = None
        self._next_at: datetime | None = None

    def in_force(self) -> Mapping[tuple[str, str], float] | None:
        """US dollars an hour by (type, zone); a pool that is not in it has no spot price. None where they cannot be read: never raises for that."""
        now = self._now()
        if self._next_at is None or now >= self._next_at:
            try:
                self._known, self._next_at = self._read(now), now + GOOD_FOR
            except (ClientError, BotoCoreError, KeyError, ValueError):
                logger.warning("spot prices could not be read: placed by typical ones", exc_info=True)
                self._known, self._next_at = None, now + AGAIN_AFTER
        return self._known

    def kept(self, instance_type: str, zone: str) -> float | None:
        """What the pool cost when all were read last, if that was lately: nobody is asked."""
        if self._known is None or self._next_at is None or self._now() >= self._next_at:
            return None
        return self._known.get((instance_type, zone))

    def _read(self, now: datetime) -> dict[tuple[str, str], float]:
        """DescribeSpotPriceHistory with a ``StartTime`` of now: the price in force of every pool, in one page as a rule."""
        pages = self._ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=sorted(GPU_INSTANCES), ProductDescriptions=list(PRODUCTS), StartTime=now
        )
        newest: dict[tuple[str, str], tuple[datetime, float]] = {}
        for entry in (entry for page in pages for entry in page["SpotPriceHistory"]):
            pool, price = (entry["InstanceType"], entry["AvailabilityZone"]), (entry["Timestamp"], float(entry["SpotPrice"]))
            newest[pool] = max(newest.get(pool, price), price)
        return {pool: usd_per_h for pool, (_, usd_per_h) in newest.items()}
