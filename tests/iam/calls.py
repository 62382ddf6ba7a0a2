"""What IAM is asked for one AWS call: from botocore's operation and parameters to actions, resources and condition keys.

Service Authorization Reference, and where a call asks for more than its own name: S3 guide, "Required permissions for S3 API
operations"; DynamoDB guide, "Using IAM with transactions". EC2's are in ``dropforge.local.iam.launches``. An operation that is not
known here raises.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dropforge.local.iam.conditions import NotKnown
from dropforge.local.iam.launches import requests as ec2_requests
from dropforge.local.iam.policies import Request
from tests.iam.site import ACCOUNT, REGION, Site

Params = Mapping[str, Any]
#: EC2's reads, which know no resource.
_LOOKS = ("DescribeInstances", "DescribeSubnets", "DescribeSpotPriceHistory", "DescribeLaunchTemplates", "DescribeLaunchTemplateVersions")
_OBJECT = {
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "DeleteObject": "DeleteObject",
    "PutObjectTagging": "PutObjectTagging",
}
_ITEM = {"GetItem": "Key", "PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"}
_WRITES = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
SPOT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"


@dataclass(frozen=True)
class World:
    """What EC2 and S3 know beside the request: the facts that ``dropforge.local.iam.launches`` asks for, and whether an object is there."""

    site: Site
    tags_of: Callable[[str], Mapping[str, str]] = lambda resource_id: {}
    is_there: Callable[[str, str], bool] = lambda bucket, key: True
    vpc_of: Callable[[str], str] | None = None
    region: str = REGION

    @property
    def prefix(self) -> str:
        return f"arn:aws:ec2:{self.region}:{ACCOUNT}"

    def template(self, specification: Params) -> Params:
        """Of a template that is not the stack's nothing is known but that it is another."""
        return self.site.launch_template if specification.get("LaunchTemplateId") == self.site.ref("LaunchTemplate") else {}

    def tags(self, resource_id: str) -> Mapping[str, str]:
        return self.tags_of(resource_id)

    def vpc(self, subnet_id: str) -> str:
        return self.site.ref("Vpc") if self.vpc_of is None else self.vpc_of(subnet_id)

    def roles(self, profile: Mapping[str, str]) -> list[str]:
        return self.site.profile_roles(profile)


def asked(service: str, operation: str, params: Params, world: World, caller: Mapping[str, str]) -> Iterator[Request]:
    """Everything that must be allowed for the call. ``caller``: condition keys that the caller's credentials bring. Raises NotKnown."""
    common = {"aws:SecureTransport": "true", "aws:RequestedRegion": world.region, "aws:PrincipalAccount": ACCOUNT} | dict(caller)
    for request in _OF_SERVICE.get(service, _unknown)(operation, params, world):
        yield Request(request.action, request.resource, common | dict(request.context))


def _unknown(operation: str, params: Params, world: World) -> Iterator[Request]:
    raise NotKnown(f"what IAM is asked for {operation}: teach tests/iam/calls.py, from the Service Authorization Reference")


def _s3(operation: str, params: Params, world: World) -> Iterator[Request]:
    bucket = f"arn:aws:s3:::{params.get('Bucket', '')}"
    if operation == "ListObjectsV2":
        yield Request("s3:ListBucket", bucket, {f"s3:{name.lower()}": params[name] for name in ("Prefix", "Delimiter") if name in params})
        return
    if operation not in _OBJECT:
        yield from _unknown(operation, params, world)
    resource = f"{bucket}/{params['Key']}"
    version = "Version" if "VersionId" in params and operation in ("GetObject", "HeadObject", "DeleteObject") else ""
    yield Request(f"s3:{_OBJECT[operation]}{version}", resource, _write_keys(operation, params))
    if "Tagging" in params:
        yield Request("s3:PutObjectTagging", resource, {})
    if _OBJECT[operation] == "GetObject" and not world.is_there(params["Bucket"], params["Key"]):
        # "404, not 403, for a missing key" takes the right to list; without a prefix, for the call names none.
        yield Request("s3:ListBucket", bucket, {})


def _write_keys(operation: str, params: Params) -> dict[str, str]:
    keys = {f"s3:{header}": params[name] for name, header in (("IfNoneMatch", "if-none-match"), ("IfMatch", "if-match")) if name in params}
    if _OBJECT[operation] == "PutObject":
        keys["s3:ObjectCreationOperation"] = str(operation in ("PutObject", "CompleteMultipartUpload")).lower()
    return keys


def _dynamodb(operation: str, params: Params, world: World) -> Iterator[Request]:
    if operation == "TransactWriteItems":
        for entry in params["TransactItems"]:
            ((kind, write),) = entry.items()
            keys = _leading(write.get("Item") or write.get("Key")) | {"dynamodb:EnclosingOperation": operation}
            yield Request(f"dynamodb:{_WRITES[kind]}", _table(write), keys)
    elif operation == "Query":
        index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
        yield Request("dynamodb:Query", _table(params) + index, {})
    elif operation in _ITEM:
        yield Request(f"dynamodb:{operation}", _table(params), _leading(params[_ITEM[operation]]))
    else:
        yield from _unknown(operation, params, world)


def _table(params: Params) -> str:
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{params['TableName']}"


def _leading(item: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """``dynamodb:LeadingKeys`` may hold several values, also where a call is about one item (DynamoDB guide)."""
    return {"dynamodb:LeadingKeys": tuple(item["pk"].values())}


def _ec2(operation: str, params: Params, world: World) -> Iterator[Request]:
    if operation in _LOOKS:
        yield Request(f"ec2:{operation}", "*", {})
        return
    found = ec2_requests(operation, params, world)
    yield from found if found is not None else _unknown(operation, params, world)
    if operation == "CreateFleet" and params["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "spot":
        # Only in an account that never had a spot instance. A fleet of type instant needs no role for fleets (EC2 guide, "EC2 Fleet prerequisites").
        yield Request("iam:CreateServiceLinkedRole", SPOT_ROLE, {"iam:AWSServiceName": "spot.amazonaws.com"})


def _sns(operation: str, params: Params, world: World) -> Iterator[Request]:
    yield Request(f"sns:{operation}", params["TopicArn"], {})


def _sqs(operation: str, params: Params, world: World) -> Iterator[Request]:
    yield Request(f"sqs:{operation}", params["QueueUrl"], {})


def _events(operation: str, params: Params, world: World) -> Iterator[Request]:
    if operation != "PutEvents":
        yield from _unknown(operation, params, world)
    for entry in params["Entries"]:
        bus = entry.get("EventBusName", "default")
        # Both may hold several values, one for each entry.
        keys = {"events:source": (entry["Source"],), "events:detail-type": (entry["DetailType"],)}
        yield Request("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}", keys)


def _ssm(operation: str, params: Params, world: World) -> Iterator[Request]:
    if operation != "GetParameter":
        yield from _unknown(operation, params, world)
    # A SecureString under the key aws/ssm: that key's own policy lets decrypt whoever may read it (KMS guide, "How Parameter Store uses AWS KMS").
    yield Request("ssm:GetParameter", f"arn:aws:ssm:{world.region}:{ACCOUNT}:parameter{params['Name']}", {})


_OF_SERVICE: dict[str, Callable[[str, Params, World], Iterator[Request]]] = {
    "s3": _s3,
    "dynamodb": _dynamodb,
    "ec2": _ec2,
    "sns": _sns,
    "sqs": _sqs,
    "events": _events,
    "ssm": _ssm,
}
