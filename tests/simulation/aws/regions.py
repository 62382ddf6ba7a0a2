"""A region's view of the one account: what its clients show, know and start is what lies in its own zones."""

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from jobspec.regions import site_parameter
from tests.simulation.aws.faults import aws_error
from tests.simulation.aws.pages import Paginator

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account
    from tests.simulation.aws.ec2 import Ec2


class RegionalEc2:
    """An EC2 client of one region. An instance, a subnet, a client token of another means nothing to it."""

    def __init__(self, ec2: "Ec2", region: str) -> None:
        self._ec2, self._region = ec2, region
        self.describe_instances = partial(ec2.describe_instances, _region=region)
        self.describe_spot_price_history = partial(ec2.describe_spot_price_history, _region=region)

    def get_paginator(self, operation: str) -> Paginator:
        return Paginator(getattr(self, operation))

    def describe_subnets(self, *, SubnetIds: list[str]) -> dict[str, Any]:
        self._must_be_here([self._ec2.subnets.get(subnet, "") for subnet in SubnetIds], "InvalidSubnetID.NotFound", "DescribeSubnets")
        return self._ec2.describe_subnets(SubnetIds=SubnetIds)

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        (config,) = request["LaunchTemplateConfigs"]
        self._must_be_here([self._ec2.subnets.get(pool["SubnetId"], "") for pool in config["Overrides"]], "InvalidSubnetID.NotFound", "CreateFleet")
        return self._ec2.create_fleet(**request)

    def terminate_instances(self, *, InstanceIds: list[str]) -> dict[str, Any]:
        self._know(InstanceIds, "TerminateInstances")
        return self._ec2.terminate_instances(InstanceIds=InstanceIds)

    def create_tags(self, *, Resources: list[str], Tags: list[dict[str, str]]) -> dict[str, Any]:
        self._know(Resources, "CreateTags")
        return self._ec2.create_tags(Resources=Resources, Tags=Tags)

    def _know(self, instance_ids: list[str], operation: str) -> None:
        self._must_be_here([self._ec2.instances[one].zone for one in instance_ids if one in self._ec2.instances], "InvalidInstanceID.NotFound", operation)

    def _must_be_here(self, zones: list[str], code: str, operation: str) -> None:
        if any(zone[:-1] != self._region for zone in zones):
            raise aws_error(code, f"{self._region} knows none of that id", operation)


class RegionalSsm:
    """What the stack in a region has written of itself."""

    def __init__(self, account: "Account", region: str) -> None:
        self._account, self._region = account, region

    def get_parameter(self, *, Name: str) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            ec2 = self._account.ec2
            subnets = [subnet for subnet, zone in ec2.subnets.items() if zone[:-1] == self._region]
            if Name != site_parameter(self._account.project) or not subnets:
                raise aws_error("ParameterNotFound", "", "GetParameter")
            value = {"template_id": ec2.template_id, "template_version": ec2.template_version, "subnet_ids": subnets}
            return {"Parameter": {"Name": Name, "Value": json.dumps(value)}}

        answer: dict[str, Any] = self._account.call("ssm.get_parameter", Name, read)
        return answer
