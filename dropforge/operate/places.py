"""Where instances are launched from: the home region, and each other in which a stack of region.yaml stands (docs/adr/0016-regions.md)."""

import base64
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from dropforge.stack import Deployment
from jobspec.regions import site_parameter

#: What the head of the user data tells instances of the stack.
_FACT = re.compile(r"^((?:DROPFORGE|AWS)_[A-Z_]+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """One region of a stack. Without subnets, or an empty ``template_version``, the functions were not told of them.

    ``forward_rule``, ``forward_role_arn``: of a peer, what tells the home region what EC2 says there; empty where its stack does not say.
    """

    stack: Deployment
    region: str
    subnet_ids: tuple[str, ...]
    template_id: str
    template_version: str
    forward_rule: str = ""
    forward_role_arn: str = ""

    def client(self, service: str) -> Any:
        return self.stack.client(service, self.region)

    def subnets(self) -> list[dict[str, Any]]:
        return list(self.client("ec2").describe_subnets(SubnetIds=list(self.subnet_ids))["Subnets"]) if self.subnet_ids else []

    def facts(self) -> dict[str, str]:
        """What the launch template's user data says of the stack: its buckets, its image, its home region."""
        version = self.template_version or "$Default"
        answer = self.client("ec2").describe_launch_template_versions(LaunchTemplateId=self.template_id, Versions=[version])
        script = base64.b64decode(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("UserData", "")).decode(errors="replace")
        return dict(_FACT.findall(script.partition("\nSTACK_FACTS\n")[0]))


def home_of(stack: Deployment) -> Place:
    ids = tuple(part.strip() for part in (stack.setting("SUBNET_IDS") or "").split(",") if part.strip())
    return Place(stack, stack.region, ids, stack.physical_id("LaunchTemplate"), stack.setting("LAUNCH_TEMPLATE_VERSION") or "")


def peer_of(stack: Deployment, region: str) -> Place:
    """As the stack of that region has it written down. Raises ClientError, and ValueError where that is not what region.yaml writes."""
    said = json.loads(stack.client("ssm", region).get_parameter(Name=site_parameter(stack.name))["Parameter"]["Value"])
    try:
        place = Place(stack, region, tuple(said["subnet_ids"]), said["template_id"], str(said["template_version"]))
        return replace(place, forward_rule=said.get("forward_rule", ""), forward_role_arn=said.get("forward_role_arn", ""))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{site_parameter(stack.name)} is not what region.yaml writes: {error}") from error
