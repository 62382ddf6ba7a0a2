"""Checks on what a launch needs: the image, the quota, the launch template itself."""

import math
import re
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from dropforge.operate.findings import Check, Finding, broken, ok, unknown, warning
from dropforge.operate.places import Place, home_of
from dropforge.quotas import QUOTAS, Quota
from dropforge.stack import Deployment
from jobspec import tags
from jobspec.instances import GPU_INSTANCES

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<repository>[a-z0-9._/-]+?)(?::(?P<tag>[\w.-]+)|@(?P<digest>sha256:[0-9a-f]{64}))"
)

#: What EC2 says where it is not the caller's own rights that lack (IAM guide, "Troubleshoot access denied error messages").
ORGANIZATION_DENIES = "explicit deny in a service control policy"


def image(stack: Deployment) -> Iterator[Finding]:
    """The image that the pinned launch template names, in its registry."""
    uri = home_of(stack).facts().get("DROPFORGE_IMAGE", "")
    found = _ECR.fullmatch(uri)
    if found is None:
        yield unknown(
            "image",
            f"{uri or 'The launch template names no image: it'} is not in ECR, so it cannot be looked up from here; instances pull it without credentials.",
        )
        return
    repository = found["repository"]
    image_id = {"imageTag": found["tag"]} if found["tag"] else {"imageDigest": found["digest"]}
    try:
        detail = _in_registry(stack, found, image_id)
    except ClientError as error:
        if error.response["Error"]["Code"] != "RepositoryNotFoundException":
            raise
        create = f"aws ecr create-repository --repository-name {repository}"
        yield broken("image", f"There is no repository {repository}: every instance would end without work.", create)
        return
    if detail is None:
        push = f"docker build --file Dockerfile.gpu --tag {uri} . && docker push {uri}"
        yield broken("image", f"{uri} is not in its repository: every instance would end without work. Build and push it (docs/deployment.md).", push)
        return
    yield ok("image", f"{uri} is there ({_told(detail)}).")
    yield _agent_image(stack, uri, found)


def _in_registry(stack: Deployment, found: re.Match[str], image_id: dict[str, str]) -> dict[str, Any] | None:
    """What the registry says of an image, or None where it has no such one. Raises ClientError, also for a repository that is not there."""
    try:
        details = stack.client("ecr").describe_images(registryId=found["account"], repositoryName=found["repository"], imageIds=[image_id])["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ImageNotFoundException":
            raise
        return None
    return details[0] if details else None


def _told(detail: dict[str, Any]) -> str:
    pushed = f", pushed {detail['imagePushedAt']:%Y-%m-%d}" if "imagePushedAt" in detail else ""
    return f"{detail['imageDigest'][:19]}..., {detail.get('imageSizeInBytes', 0) / 2**30:.1f} GiB{pushed}"


def _agent_image(stack: Deployment, uri: str, found: re.Match[str]) -> Finding:
    """The image of the agent alone, which an instance pulls first (docs/adr/0020)."""
    slower = "each start stages model and data after the image instead of beside it, so that it is slower by as long as they take"
    if found["digest"]:
        return ok("image", f"None is looked for where the image is given by digest: {slower}.")
    if (detail := _in_registry(stack, found, {"imageTag": f"{found['tag']}-agent"})) is None:
        push = f"docker build --file Dockerfile.gpu --target agent --tag {uri}-agent . && docker push {uri}-agent"
        return warning("image", f"{uri}-agent is not in its repository: {slower}. Build and push it from the same source (docs/deployment.md).", push)
    return ok("image", f"{uri}-agent is there ({_told(detail)}).")


def quotas(place: Place) -> Iterator[Finding]:
    """A new account's quota for GPUs is 0 vCPUs: then nothing can start, and no retry helps."""
    values = {quota: _vcpus(place, quota) for quota in QUOTAS}
    spot_starts = any(quota.market == "spot" and _fitting(quota, vcpus) for quota, vcpus in values.items())
    for quota, vcpus in values.items():
        fits = _fitting(quota, vcpus)
        told = f"{quota.name} ({quota.code}): {vcpus:g} vCPUs"
        most = max(GPU_INSTANCES[name].vcpus for name in quota.types())
        mend = f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {quota.code} --desired-value {most}"
        too_large = [name for name in quota.types() if name not in fits]
        if not too_large:
            yield ok("quota", f"{told}.")
        elif fits:
            yield ok("quota", f"{told}: too few for {', '.join(too_large)}.")
        elif quota.market == "spot" and not spot_starts:
            yield broken("quota", f"{told}, and no other spot quota lets an offered type start: no job can run on spot.", mend)
        else:
            needed = min(GPU_INSTANCES[name].vcpus for name in quota.types())
            yield warning("quota", f"{told}: {', '.join(quota.types())} cannot start ({needed} vCPUs at least).", mend)


def _vcpus(place: Place, quota: Quota) -> float:
    client, asked = place.client("service-quotas"), {"ServiceCode": "ec2", "QuotaCode": quota.code}
    try:
        return float(client.get_service_quota(**asked)["Quota"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchResourceException":
            raise
        # Never changed for this account: the default holds.
        return float(client.get_aws_default_service_quota(**asked)["Quota"]["Value"])


def _fitting(quota: Quota, vcpus: float) -> list[str]:
    return [name for name in quota.types() if GPU_INSTANCES[name].vcpus <= math.floor(vcpus)]


def launch(place: Place) -> Iterator[Finding]:
    """RunInstances with DryRun: EC2 looks at the request and the caller's rights, and starts nothing."""
    template, version, stack = place.template_id, place.template_version, place.stack
    if not place.subnet_ids or not version:
        yield unknown("launch", "Not tried: the functions know no subnet or no version of the launch template.")
        return
    name = next(iter(GPU_INSTANCES))
    try:
        place.client("ec2").run_instances(
            DryRun=True,
            MinCount=1,
            MaxCount=1,
            InstanceType=name,
            SubnetId=place.subnet_ids[0],
            LaunchTemplate={"LaunchTemplateId": template, "Version": version},
            InstanceMarketOptions={"MarketType": "spot"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": tags.PROJECT, "Value": stack.name}]}],
        )
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")[:300]
        if code == "DryRunOperation":
            yield ok(
                "launch",
                f"A dry run of {name} from {template} version {version} passed. Proven: the request is well formed and you may make it. "
                "Not proven: the functions' own rights, capacity, quota.",
            )
        elif code == "UnauthorizedOperation" and ORGANIZATION_DENIES in message:
            yield broken(
                "launch",
                f"A policy of your organization denies launches in this account, the functions' as well as yours: no job can start. {message}",
                f"aws organizations list-policies-for-target --target-id {stack.account_id} --filter SERVICE_CONTROL_POLICY",
            )
        elif code == "UnauthorizedOperation":
            yield unknown(
                "launch",
                "Not tried: you may not launch instances yourself (UnauthorizedOperation). It says nothing about the functions, which have their own roles.",
            )
        else:
            yield broken("launch", f"EC2 refuses a launch from {template} version {version}: {code}: {message}", f"sam deploy --stack-name {stack.name}")


CHECKS = (Check("image", image), Check("quota", lambda stack: quotas(home_of(stack))), Check("launch", lambda stack: launch(home_of(stack))))
