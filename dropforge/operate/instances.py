"""The project's instances, found by tag, as EC2 shows them."""

from dataclasses import dataclass
from datetime import datetime

from dropforge.stack import Deployment
from jobspec import tags

#: What is billed, or may come to be again: a stopped instance keeps its volume and can be started.
LIVE_STATES = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True, slots=True)
class Instance:
    instance_id: str
    instance_type: str
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


def live_instances(stack: Deployment) -> list[Instance]:
    """Every instance with the project's tag that is not ended or ending, oldest first."""
    filters = [{"Name": f"tag:{tags.PROJECT}", "Values": [stack.name]}, {"Name": "instance-state-name", "Values": list(LIVE_STATES)}]
    pages = stack.client("ec2").get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig={"PageSize": 200})
    found = [
        Instance(
            raw["InstanceId"],
            raw["InstanceType"],
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
    return sorted(found, key=lambda instance: (instance.launched_at, instance.instance_id))
