"""What IAM is asked for one EC2 call: each resource with keys of its own, and the rights that a launch needs beside its own name.

Resources and keys by the Service Authorization Reference for EC2; "Launch instances using launch templates" and "Example policies"
(EC2 guide) for ``ec2:LaunchTemplate`` and ``ec2:IsLaunchTemplateResource``. Requests are in boto3's form. Where AWS's pages leave
something open, both readings are asked for, so that a policy must allow both:

* whether the create action of a fleet's instances reads CreateFleet or RunInstances;
* whether a launch of a spot instance asks for ``spot-instances-request`` when that request gets no tags.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dropforge.local.iam.policies import Request

Tags = Mapping[str, str]


class Facts(Protocol):
    """What EC2 knows and the request does not say. ``prefix`` is ``arn:PARTITION:ec2:REGION:ACCOUNT``."""

    @property
    def prefix(self) -> str: ...

    def template(self, specification: Mapping[str, Any]) -> Mapping[str, Any]:
        """The launch template's data, in the version that a request names."""

    def tags(self, resource_id: str) -> Tags: ...

    def vpc(self, subnet_id: str) -> str: ...

    def roles(self, profile: Mapping[str, str]) -> list[str]:
        """ARNs of the roles in an instance profile."""


@dataclass(frozen=True, slots=True)
class _Launch:
    """One kind of instance that a request may start: template and request put together, the request winning."""

    request: Mapping[str, Any]
    template: Mapping[str, Any]
    template_arn: str | None
    market: str
    tags: Tags
    volume_tags: Tags

    def said(self, name: str, default: Any = None) -> Any:
        return self.request.get(name, self.template.get(name, default))

    def of_template(self, name: str) -> dict[str, str]:
        """The keys that every resource of the launch has, for the one that ``name`` gave: the template, or the request beside it."""
        if self.template_arn is None:
            return {}
        return {"ec2:LaunchTemplate": self.template_arn, "ec2:IsLaunchTemplateResource": str(name not in self.request).lower()}


def requests(operation: str, request: Mapping[str, Any], facts: Facts) -> Iterator[Request] | None:
    """Everything that must be allowed for the call, or None for an operation that is not known here."""
    match operation:
        case "CreateFleet":
            return _fleet(request, facts)
        case "RunInstances":
            return _run(request, facts)
        case "CreateTags":
            return _tag(request, facts)
        case "TerminateInstances" | "StopInstances" | "StartInstances" | "RebootInstances":
            return _on_instances(operation, request, facts)
    return None


def tagged(specifications: list[Mapping[str, Any]], kind: str) -> dict[str, str]:
    """The tags that a list of TagSpecifications gives to resources of a kind."""
    return {tag["Key"]: str(tag.get("Value") or "") for one in specifications if one.get("ResourceType") == kind for tag in one.get("Tags", [])}


def _fleet(request: Mapping[str, Any], facts: Facts) -> Iterator[Request]:
    specifications = list(request.get("TagSpecifications", []))
    market = str(request.get("TargetCapacitySpecification", {}).get("DefaultTargetCapacityType") or "on-demand")
    tags, volume_tags = tagged(specifications, "instance"), tagged(specifications, "volume")
    yield Request("ec2:CreateFleet", f"{facts.prefix}:fleet/*", _asked(tagged(specifications, "fleet")))
    yield Request("ec2:CreateFleet", f"{facts.prefix}:instance/*", _asked(tags))
    if volume_tags:
        yield Request("ec2:CreateFleet", f"{facts.prefix}:volume/*", _asked(volume_tags))
    for config in request.get("LaunchTemplateConfigs", []):
        template, arn = _template(config.get("LaunchTemplateSpecification", {}), facts)
        if arn is not None:
            yield Request("ec2:CreateFleet", arn, _held(arn.rpartition("/")[2], facts))
        for override in config.get("Overrides") or [{}]:
            launch = _Launch(override, template, arn, market, tags, volume_tags)
            if subnet := launch.said("SubnetId"):
                yield Request("ec2:CreateFleet", f"{facts.prefix}:subnet/{subnet}", _in_vpc(subnet, facts))
            yield Request("ec2:CreateFleet", _image(launch, facts))
            yield from _launch(launch, facts, ("CreateFleet", "RunInstances"))


def _run(request: Mapping[str, Any], facts: Facts) -> Iterator[Request]:
    template, arn = _template(request.get("LaunchTemplate", {}), facts)
    specifications = list(request.get("TagSpecifications", []))
    market = "spot" if request.get("InstanceMarketOptions", {}).get("MarketType") == "spot" else "on-demand"
    launch = _Launch(request, template, arn, market, tagged(specifications, "instance"), tagged(specifications, "volume"))
    yield from _launch(launch, facts, ("RunInstances",))


def _template(specification: Mapping[str, Any], facts: Facts) -> tuple[Mapping[str, Any], str | None]:
    if not specification:
        return {}, None
    return facts.template(specification), f"{facts.prefix}:launch-template/{specification.get('LaunchTemplateId', '*')}"


def _launch(launch: _Launch, facts: Facts, create_actions: tuple[str, ...]) -> Iterator[Request]:
    """RunInstances on each resource, PassRole, CreateTags."""
    run, prefix = "ec2:RunInstances", facts.prefix
    yield Request(run, f"{prefix}:instance/*", launch.of_template("InstanceType") | _instance_keys(launch) | _asked(launch.tags))
    yield Request(run, _image(launch, facts), launch.of_template("ImageId"))
    if launch.template_arn is not None:
        yield Request(run, launch.template_arn, launch.of_template("") | _held(launch.template_arn.rpartition("/")[2], facts))
    if subnet := launch.said("SubnetId"):
        yield Request(run, f"{prefix}:subnet/{subnet}", launch.of_template("SubnetId") | _in_vpc(subnet, facts))
    for group in launch.said("SecurityGroupIds", []):
        yield Request(run, f"{prefix}:security-group/{group}", launch.of_template("SecurityGroupIds") | _held(group, facts))
    of_template_tags = list(launch.template.get("TagSpecifications", []))
    interface_tags = tagged(of_template_tags, "network-interface")
    yield Request(run, f"{prefix}:network-interface/*", launch.of_template("NetworkInterfaces") | _asked(interface_tags))
    yield Request(run, f"{prefix}:volume/*", launch.of_template("BlockDeviceMappings") | _asked(launch.volume_tags))
    for mapping in launch.said("BlockDeviceMappings", []):
        if snapshot := mapping.get("Ebs", {}).get("SnapshotId"):
            yield Request(run, f"{_without_account(prefix)}:snapshot/{snapshot}", launch.of_template("BlockDeviceMappings"))
    if launch.market == "spot":
        yield Request(run, f"{prefix}:spot-instances-request/*", {})
    for role in facts.roles(launch.said("IamInstanceProfile", {})):
        yield Request("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
    for kind, tags in (("instance", launch.tags), ("volume", launch.volume_tags), ("network-interface", interface_tags)):
        if tags:
            for create_action in create_actions:
                yield Request("ec2:CreateTags", f"{prefix}:{kind}/*", _asked(tags) | {"ec2:CreateAction": create_action})


def _instance_keys(launch: _Launch) -> dict[str, str]:
    """Defaults of a setting that nobody made: the EC2 API reference."""
    options = {**launch.template.get("MetadataOptions", {}), **launch.request.get("MetadataOptions", {})}
    return {
        "ec2:InstanceType": str(launch.said("InstanceType", "")),
        "ec2:InstanceMarketType": launch.market,
        "ec2:MetadataHttpEndpoint": str(options.get("HttpEndpoint", "enabled")),
        "ec2:MetadataHttpPutResponseHopLimit": str(options.get("HttpPutResponseHopLimit", 1)),
        "ec2:MetadataHttpTokens": str(options.get("HttpTokens", "optional")),
    }


def _image(launch: _Launch, facts: Facts) -> str:
    return f"{_without_account(facts.prefix)}:image/{launch.said('ImageId', '*')}"


def _without_account(prefix: str) -> str:
    """Images and snapshots are named without an account."""
    return prefix.rpartition(":")[0] + ":"


def _in_vpc(subnet_id: str, facts: Facts) -> dict[str, Any]:
    return {"ec2:Vpc": f"{facts.prefix}:vpc/{facts.vpc(subnet_id)}"} | _held(subnet_id, facts)


def _tag(request: Mapping[str, Any], facts: Facts) -> Iterator[Request]:
    tags = tagged([{"ResourceType": "", "Tags": request.get("Tags", [])}], "")
    for resource_id in request.get("Resources", []):
        kind = "instance" if str(resource_id).startswith("i-") else "*"
        yield Request("ec2:CreateTags", f"{facts.prefix}:{kind}/{resource_id}", _asked(tags) | _held(resource_id, facts))


def _on_instances(operation: str, request: Mapping[str, Any], facts: Facts) -> Iterator[Request]:
    for instance_id in request.get("InstanceIds", []):
        yield Request(f"ec2:{operation}", f"{facts.prefix}:instance/{instance_id}", _held(instance_id, facts))


def _asked(tags: Tags) -> dict[str, Any]:
    """Keys of the tags that a request gives."""
    keys: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return keys | ({"aws:TagKeys": tuple(tags)} if tags else {})


def _held(resource_id: str, facts: Facts) -> dict[str, Any]:
    """Keys of the tags that a resource has."""
    return {f"{prefix}:ResourceTag/{key}": value for key, value in facts.tags(resource_id).items() for prefix in ("aws", "ec2")}
