"""A market whose moods a test sets: the EC2 adapter over the EC2 in memory, and over moto's."""

import os
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from control_plane.adapters.ec2 import Ec2Fleet, Site
from control_plane.core.records import LaunchPlan, Pool
from control_plane.ports import Fleet
from jobspec.tags import instance_tags
from tests.contract import ec2_wire
from tests.contract.samples import NOW, PROJECT, ROLE_ID, now, plan
from tests.contract.sides import InMemorySide, Side
from tests.simulation.aws import aws_error, lost_answer
from tests.simulation.aws.ec2 import Instance

ZONES = ("us-east-1a", "us-east-1b")
#: moto takes any image id, with its own list of images left unread (conftest).
IMAGE = "ami-0123456789abcdef0"
TYPES = ("g5.xlarge", "g6.xlarge")


def _fleet_over(ec2: Any, template_id: str, *subnet_ids: str, project: str = PROJECT) -> Ec2Fleet:
    site = Site(subnet_ids, template_id, "1", ROLE_ID)
    return Ec2Fleet(ec2, project=project, site=lambda: site, now=now)


class FleetWorld(Protocol):
    """What both sides can be told to do. ``pools`` has every pool of the world, in a plan's order."""

    template_id: str
    #: The client below the adapter.
    ec2: Any

    @property
    def fleet(self) -> Fleet: ...

    @property
    def pools(self) -> tuple[Pool, ...]: ...

    def close(self, codes: dict[Pool, str]) -> None:
        """These pools answer with an error code from now on."""

    def start_too_many(self, extra: int) -> None: ...
    def make_room(self, instances: int) -> None:
        """Every pool has so many instances to give, and no more."""

    def throttle(self) -> None: ...
    def lose_answer(self, *, effect: bool) -> None: ...
    def refuse_token(self) -> None:
        """The next plan's client token was used before with other parameters."""

    def place_foreign(self) -> str:
        """Start an instance of another project; its id."""


def plan_in(world: FleetWorld, **changes: Any) -> LaunchPlan:
    return plan(world.pools, template_id=world.template_id, **changes)


def tags_of(of: LaunchPlan, job_id: str = "demo-1", project: str = PROJECT) -> dict[str, str]:
    return instance_tags(project=project, job_id=job_id, attempt=of.attempt, client_token=of.client_token, deadline_at=of.deadline_at)


class InMemoryWorld:
    """The adapter over the EC2 in memory."""

    def __init__(self, side: InMemorySide) -> None:
        self.account = side.account
        self.ec2 = side.account.ec2
        self.template_id = self.ec2.template_id
        self.ec2.subnets = {f"subnet-{n:017x}": zone for n, zone in enumerate(ZONES, 1)}
        self.fleet = _fleet_over(side.client("ec2"), self.template_id, *self.ec2.subnets)
        self.pools = tuple(Pool(instance_type=t, zone=z, subnet_id=s) for t in TYPES for s, z in self.ec2.subnets.items())

    def close(self, codes: dict[Pool, str]) -> None:
        self.ec2.pool_errors = {(pool.instance_type, pool.zone): code for pool, code in codes.items()}

    def start_too_many(self, extra: int) -> None:
        self.ec2.extra_instances = extra

    def make_room(self, instances: int) -> None:
        self.ec2.capacity = {(pool.instance_type, pool.zone, market): instances for pool in self.pools for market in ("spot", "on-demand")}

    def throttle(self) -> None:
        self._meet(aws_error("RequestLimitExceeded", "Request limit exceeded.", "CreateFleet"), after=False)

    def lose_answer(self, *, effect: bool) -> None:
        self._meet(lost_answer("CreateFleet"), after=effect)

    def refuse_token(self) -> None:
        other = plan_in(self, deadline_at=NOW)
        self.fleet.launch(other, tags_of(other))

    def place_foreign(self) -> str:
        foreign = Instance("i-0fedcba9876543210", "g5.xlarge", ZONES[0], "spot", {"dropforge:project": "somebody-else"}, NOW, 0.4, "1")
        self.ec2.place(foreign)
        return foreign.instance_id

    def _meet(self, error: Exception, *, after: bool) -> None:
        """The next launch call meets the error, before or after its effect."""
        straight = self.account.gate

        def gate(operation: str, subject: str, effect: Callable[[], Any]) -> Any:
            if operation != "ec2.create_fleet":
                return effect()
            self.account.gate = straight
            if after:
                effect()
            raise error

        self.account.gate = gate


class AwsWorld:
    """The adapter over moto's EC2, with answers on the wire that moto cannot give."""

    template_id: str

    def __init__(self, side: Side) -> None:
        self.ec2 = side.client("ec2")
        answer = self.ec2.create_launch_template(LaunchTemplateName="gpu", LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "g5.xlarge"})
        self.template_id = answer["LaunchTemplate"]["LaunchTemplateId"]
        subnets = {s["AvailabilityZone"]: s["SubnetId"] for s in self.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] in ZONES}
        self.subnets = {zone: subnets[zone] for zone in ZONES}
        self.fleet = _fleet_over(self.ec2, self.template_id, *self.subnets.values())
        self.pools = tuple(Pool(instance_type=t, zone=z, subnet_id=s) for t in TYPES for z, s in self.subnets.items())

    def fleet_over(self, *subnet_ids: str) -> Ec2Fleet:
        return _fleet_over(self.ec2, self.template_id, *subnet_ids)

    def close(self, codes: dict[Pool, str]) -> None:
        by_subnet = {(pool.instance_type, pool.subnet_id): code for pool, code in codes.items()}
        ec2_wire.close_pools(self.ec2, lambda instance_type, subnet_id: by_subnet.get((instance_type, subnet_id)))

    def start_too_many(self, extra: int) -> None:
        ec2_wire.close_pools(self.ec2, lambda instance_type, subnet_id: None, instances=1 + extra)

    def make_room(self, instances: int) -> None:
        ec2_wire.limit_pools(self.ec2, instances)

    def throttle(self) -> None:
        ec2_wire.fail_with(self.ec2, "CreateFleet", "RequestLimitExceeded", "Request limit exceeded.", status=503)

    def lose_answer(self, *, effect: bool) -> None:
        ec2_wire.time_out(self.ec2, "CreateFleet", effect=effect)

    def refuse_token(self) -> None:
        ec2_wire.fail_with(self.ec2, "CreateFleet", "IdempotentParameterMismatch", "The client token was used before with other parameters.")

    def place_foreign(self) -> str:
        tags = [{"Key": "dropforge:project", "Value": "somebody-else"}]
        answer = self.ec2.run_instances(
            ImageId=IMAGE, InstanceType="g5.xlarge", MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
        )
        return str(answer["Instances"][0]["InstanceId"])


class LiveWorld(AwsWorld):
    """The adapter over a live account's EC2, for what starts no instance: the stack's subnets, and a project that has nothing."""

    template_id = "lt-0123456789abcdef0"

    def __init__(self, side: Side) -> None:
        given = os.environ.get("SUBNET_IDS", "")
        if not given:
            raise LookupError("a live run needs SUBNET_IDS, comma separated, as a stack's functions have it")
        self.ec2 = side.client("ec2")
        ids = [part.strip() for part in given.split(",")]
        zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in self.ec2.describe_subnets(SubnetIds=ids)["Subnets"]}
        self.subnets = {zones[subnet_id]: subnet_id for subnet_id in reversed(ids)}
        self.fleet = _fleet_over(self.ec2, self.template_id, *ids, project=f"contract-{secrets.token_hex(8)}")
        self.pools = tuple(Pool(instance_type=t, zone=z, subnet_id=s) for t in TYPES for z, s in self.subnets.items())
