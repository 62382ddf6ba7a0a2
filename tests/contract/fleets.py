"""A market whose moods a test sets, once over the fleet in memory and once over the EC2 adapter."""

from typing import Any, Protocol

from control_plane.adapters.ec2 import Ec2Fleet
from control_plane.adapters.memory import LostAnswer, MemoryFleet, ThrottledCall
from control_plane.core.state import LaunchPlan, Pool
from control_plane.ports import Fleet
from jobspec.tags import instance_tags
from tests.contract import aws_side, ec2_wire
from tests.contract.samples import NOW, PROJECT, ROLE_ID, now, plan

ZONES = ("us-east-1a", "us-east-1b")
#: moto takes any image id, with its own list of images left unread (conftest).
IMAGE = "ami-0123456789abcdef0"
TYPES = ("g5.xlarge", "g6.xlarge")


class FleetWorld(Protocol):
    """What both sides can be told to do. ``pools`` has every pool of the world, in a plan's order."""

    template_id: str

    @property
    def fleet(self) -> Fleet: ...

    @property
    def pools(self) -> tuple[Pool, ...]: ...

    def close(self, codes: dict[Pool, str]) -> None:
        """These pools answer with an error code from now on."""

    def start_too_many(self, extra: int) -> None: ...
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


class MemoryWorld:
    template_id = "lt-0123456789abcdef0"

    def __init__(self) -> None:
        subnets = {zone: f"subnet-{n:017x}" for n, zone in enumerate(ZONES, 1)}
        self.fleet = MemoryFleet(now, PROJECT, subnets, self.template_id, "1", ROLE_ID)
        self.pools = tuple(Pool(instance_type=t, zone=z, subnet_id=s) for t in TYPES for z, s in subnets.items())

    def close(self, codes: dict[Pool, str]) -> None:
        self.fleet.pool_errors = {(pool.instance_type, pool.zone): code for pool, code in codes.items()}

    def start_too_many(self, extra: int) -> None:
        self.fleet.extra_instances = extra

    def throttle(self) -> None:
        self.fleet.faults.append(ThrottledCall())

    def lose_answer(self, *, effect: bool) -> None:
        self.fleet.faults.append(LostAnswer(effect))

    def refuse_token(self) -> None:
        other = plan_in(self, deadline_at=NOW)
        self.fleet.launch(other, tags_of(other))

    def place_foreign(self) -> str:
        foreign = plan_in(self, client_token="foreign")
        self.fleet.launch(foreign, tags_of(foreign, project="somebody-else"))
        return self.fleet.every_instance()[-1].instance_id


class AwsWorld:
    def __init__(self) -> None:
        self.ec2 = aws_side.client("ec2")
        answer = self.ec2.create_launch_template(LaunchTemplateName="gpu", LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "g5.xlarge"})
        self.template_id: str = answer["LaunchTemplate"]["LaunchTemplateId"]
        subnets = {s["AvailabilityZone"]: s["SubnetId"] for s in self.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] in ZONES}
        self.subnets = {zone: subnets[zone] for zone in ZONES}
        self.fleet = self.fleet_over(*self.subnets.values())
        self.pools = tuple(Pool(instance_type=t, zone=z, subnet_id=s) for t in TYPES for z, s in self.subnets.items())

    def fleet_over(self, *subnet_ids: str) -> Ec2Fleet:
        return Ec2Fleet(self.ec2, project=PROJECT, subnet_ids=subnet_ids, template_id=self.template_id, template_version="1", role_id=ROLE_ID, now=now)

    def close(self, codes: dict[Pool, str]) -> None:
        by_subnet = {(pool.instance_type, pool.subnet_id): code for pool, code in codes.items()}
        ec2_wire.close_pools(self.ec2, lambda instance_type, subnet_id: by_subnet.get((instance_type, subnet_id)))

    def start_too_many(self, extra: int) -> None:
        ec2_wire.close_pools(self.ec2, lambda instance_type, subnet_id: None, instances=1 + extra)

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
