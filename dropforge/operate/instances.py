"""The project's instances, found by tag, as EC2 shows them."""

from dataclasses import dataclass
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError

from dropforge.stack import Deployment
from jobspec import tags

#: What is billed, or may come to be again: a stopped instance keeps its volume and can be started.
LIVE_STATES = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True, slots=True)
class Instance:
    instance_id: str
    instance_type: str
    region: str
    zone: str
    market: str
    state: str
    launched_at: datetime
    tags: dict[str, str]

    def told(self) -> str:
        """One line for a person."""
        job, attempt = self.tags.get(tags.JOB, "no job"), self.tags.get(tags.ATTEMPT, "?")
        where = f"{self.instance_id} {self.instance_type} {self.zone} {self.market}"
        return f"{where} {self.state} since {self.launched_at:%Y-%m-%d %H:%M} UTC, {job} attempt {attempt}"


@dataclass(frozen=True, slots=True)
class Look:
    """Live instances, oldest first. ``unread``: regions that did not answer, and why: what lives there is not known."""

    live: tuple[Instance, ...]
    unread: dict[str, str]


def look(stack: Deployment) -> Look:
    """Every instance with the project's tag that is not ended or ending, in all of the stack's regions. Raises what the home region raises."""
    found, unread = _in_region(stack, stack.region), {}
    for region in stack.peers:
        try:
            found += _in_region(stack, region)
        except (BotoCoreError, ClientError) as error:
            unread[region] = f"{error}"[:300]
    return Look(tuple(sorted(found, key=lambda instance: (instance.launched_at, instance.instance_id))), unread)


def _in_region(stack: Deployment, region: str) -> list[Instance]:
    filters = [{"Name": f"tag:{tags.PROJECT}", "Values": [stack.name]}, {"Name": "instance-state-name", "Values": list(LIVE_STATES)}]
    pages = stack.client("ec2", region).get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig={"PageSize": 200})
    return [
        Instance(
            raw["InstanceId"],
            raw["InstanceType"],
            region,
            raw.get("Placement", {}).get("AvailabilityZone", ""),
            raw.get("InstanceLifecycle", "on-demand"),
            raw["State"]["Name"],
            raw["LaunchTime"],
            {tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])},
        )
        for page in pages
        for reservation in page["Reservations"]
        for raw in reservation["Instances"]
    ]
