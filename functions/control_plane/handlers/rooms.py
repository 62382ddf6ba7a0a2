"""The rooms behind the doors: ports over AWS clients, built once a container and only when a door needs them."""

from __future__ import annotations

from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from control_plane.adapters.ec2 import Ec2Fleet
    from control_plane.adapters.eventbridge import EventBridgeBus
    from control_plane.adapters.holds import DynamoHolds
    from control_plane.adapters.pages import S3Pages
    from control_plane.adapters.publish_ledger import DynamoLedger
    from control_plane.adapters.regions import Regions
    from control_plane.adapters.sns import SnsPost
    from control_plane.adapters.spend import DynamoSpend
    from control_plane.adapters.webhook import SsmWebhook
    from control_plane.driver import Driver
    from control_plane.ports import Clock, Counted, Each, Pause
    from control_plane.settings import Settings

# A room's modules are imported where it is opened, so that a door starts with its own rooms alone: all of them, with the jobs' models, were half of what
# a small door's start took.


class Rooms:
    """Everything a door may call. ``client`` gives a client by its service's name, and another region's.

    The simulator gives its own, one thread, and no pause.
    """

    def __init__(self, settings: Settings, client: Callable[..., Any], now: Clock, counted: Counted, each: Each = map, pause: Pause | None = None) -> None:
        self.settings = settings
        self.now = now
        self.each = each
        self.pause = pause
        # One client of a service serves all who ask for it.
        self._client = cache(client)
        self._counted = counted

    @cached_property
    def fleets(self) -> Regions:
        from control_plane.adapters.ec2 import Ec2Fleet, Site
        from control_plane.adapters.regions import Regions

        facts = self.settings
        site = Site(facts.subnet_ids, facts.launch_template_id, facts.launch_template_version, facts.instance_role_id)
        home = Ec2Fleet(self._client("ec2"), project=facts.project, site=lambda: site, now=self.now)
        return Regions(home, {region: partial(self._peer, region) for region in facts.peer_regions})

    def _peer(self, region: str) -> Ec2Fleet:
        from control_plane.adapters.ec2 import Ec2Fleet
        from control_plane.adapters.regions import PeerSite

        facts = self.settings
        site = PeerSite(self._client("ssm", region), facts.project, facts.instance_role_id, self.now)
        return Ec2Fleet(self._client("ec2", region), project=facts.project, site=site, now=self.now)

    @cached_property
    def holds(self) -> DynamoHolds:
        from control_plane.adapters.holds import DynamoHolds

        return DynamoHolds(self._client("dynamodb"), self.settings.table_name, self.now)

    @cached_property
    def ledger(self) -> DynamoLedger:
        from control_plane.adapters.publish_ledger import DynamoLedger

        return DynamoLedger(self._client("dynamodb"), self.settings.table_name)

    @cached_property
    def spend(self) -> DynamoSpend:
        from control_plane.adapters.spend import DynamoSpend

        return DynamoSpend(self._client("dynamodb"), self.settings.table_name)

    @cached_property
    def bus(self) -> EventBridgeBus:
        from control_plane.adapters.eventbridge import EventBridgeBus

        return EventBridgeBus(self._client("events"))

    @cached_property
    def post(self) -> SnsPost:
        from control_plane.adapters.sns import SnsPost

        return SnsPost(self._client("sns"), self.settings.topic_arn)

    @cached_property
    def pages(self) -> S3Pages:
        from control_plane.adapters.pages import S3Pages

        return S3Pages(self._client("s3"))

    @cached_property
    def webhook(self) -> SsmWebhook:
        from control_plane.adapters.webhook import SsmWebhook

        return SsmWebhook(self._client("ssm"), self.settings.webhook_parameter, self.now)

    @cached_property
    def driver(self) -> Driver:
        from control_plane.adapters.dynamodb import DynamoStore
        from control_plane.adapters.s3 import S3Objects
        from control_plane.core.report import StackFacts
        from control_plane.driver import Driver
        from control_plane.look import Watcher
        from control_plane.statuses import Statuses

        facts = self.settings
        objects = S3Objects(self._client("s3"))
        store = DynamoStore(self._client("dynamodb"), facts.table_name, facts.max_concurrent_jobs, self.now)
        return Driver(
            store=store,
            fleets=self.fleets,
            objects=objects,
            post=self.post,
            watcher=Watcher(self.fleets, objects, self.holds, store, store, self.ledger, facts.outputs_bucket, facts.rules),
            statuses=Statuses(objects, StackFacts(facts.project, facts.data_bucket, facts.outputs_bucket, facts.volume_gib)),
            clock=self.now,
            counted=self._counted,
            project=facts.project,
            data_bucket=facts.data_bucket,
            outputs_bucket=facts.outputs_bucket,
            heartbeat_s=facts.heartbeat_s,
        )
