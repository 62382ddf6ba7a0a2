"""The project's regions: the home region's fleet, and those of its peers (region.yaml), which give a network and a launch template only.

The record, the buckets and every function are the home region's (docs/adr/0016). A peer says what to launch from in one SSM parameter of a
fixed name, which its stack writes.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from control_plane.adapters.ec2 import Ec2Fleet, Site
from control_plane.core.events import Offers
from control_plane.core.records import Egress
from control_plane.ports import Clock, Fleet
from jobspec.regions import region_of, site_parameter, transfer_usd_per_gib

logger = logging.getLogger(__name__)

#: A peer's stack changes when a person deploys it; what is launched from is read anew this often.
READ_EVERY = timedelta(minutes=5)


@dataclass(slots=True)
class PeerSite:
    """What the stack in another region has to launch from. ``role_id``: instances have the home stack's role everywhere, for IAM knows no region."""

    ssm: Any
    project: str
    role_id: str
    now: Clock
    _known: Site | None = None
    _read_at: datetime | None = None

    def __call__(self) -> Site:
        """Raises ClientError, and ValueError for a parameter that nobody's stack has written."""
        now = self.now()
        if self._known is None or self._read_at is None or now - self._read_at >= READ_EVERY:
            said = json.loads(self.ssm.get_parameter(Name=site_parameter(self.project))["Parameter"]["Value"])
            try:
                self._known = Site(tuple(said["subnet_ids"]), said["template_id"], str(said["template_version"]), self.role_id)
            except (KeyError, TypeError) as error:
                raise ValueError(f"{site_parameter(self.project)} is not what region.yaml writes: {error}") from error
            self._read_at = now
        return self._known


class Regions:
    """The Fleets of a project. ``peers``: makes the fleet of each other region, when it is first needed."""

    def __init__(self, home: Ec2Fleet, peers: Mapping[str, Callable[[], Ec2Fleet]]) -> None:
        self._home = home
        self._make = dict(peers)
        self._made: dict[str, Ec2Fleet] = {}
        self._making = Lock()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._make)

    def offers(self) -> Offers:
        """The home region's, with those of the peers that can be read: a region that does not answer holds up nobody."""
        home = self._home.offers()
        peers = [offers for region in self._make if (offers := self._offers_of(region, home.region)) is not None]
        return replace(home, peers=tuple(peers))

    def at(self, zone: str) -> Fleet:
        return self._peer(region_of(zone)) if region_of(zone) in self._make else self._home

    def parts(self) -> tuple[Fleet, ...]:
        return (self._home, *(self._peer(region) for region in self._make))

    def _peer(self, region: str) -> Ec2Fleet:
        # A tick drives jobs on several threads.
        with self._making:
            if region not in self._made:
                self._made[region] = self._make[region]()
            return self._made[region]

    def _offers_of(self, region: str, home: str) -> Offers | None:
        try:
            offers = self._peer(region).offers()
        except Exception:
            logger.warning("a region's offers could not be read", extra={"region": region}, exc_info=True)
            return None
        return replace(offers, egress=Egress(in_usd_per_gib=transfer_usd_per_gib(home, region), out_usd_per_gib=transfer_usd_per_gib(region, home)))
