"""The words that the matrix is written in: ``may`` and ``may_not`` read as a sentence, and what follows is the call itself.

Words in braces are the stack's own parts (``names_of`` in test_matrix). SELF and OTHER are the writers (``aws:userid``) of two instances.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from control_plane.adapters.ec2 import fleet_request
from control_plane.core.records import LaunchPlan, Market, Pool
from jobspec import keys
from jobspec.instances import GPU_INSTANCES
from tests.iam.site import ROLE_ID

ME, OTHER_ID = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"
SELF, OTHER = keys.writer_of(ROLE_ID, ME), keys.writer_of(ROLE_ID, OTHER_ID)
#: An instance of the project, one of another project, and one without tags.
OURS, THEIRS, UNTAGGED = "i-0cccccccccccccccc", "i-0dddddddddddddddd", "i-0eeeeeeeeeeeeeeee"
FACTS = {OURS: {"dropforge:project": "dropforge"}, THEIRS: {"dropforge:project": "another"}}
TAGS = {"dropforge:project": "{OURS}", "dropforge:job": "j", "dropforge:attempt": "1", "dropforge:launch": "t", "dropforge:deadline": "1800000000"}

Call = tuple[str, str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    who: str
    may: bool
    what: str
    #: (service, operation, parameters); for what no code of ours calls: ("", action, {"Resource": ...}).
    call: Call
    #: Condition keys that are not as usual.
    given: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.who} {'may' if self.may else 'may not'} {self.what}"


def may(who: str, what: str, call: Call, **given: Any) -> Row:
    return Row(who, True, what, call, _keys(given))


def may_not(who: str, what: str, call: Call, **given: Any) -> Row:
    return Row(who, False, what, call, _keys(given))


def _keys(given: Mapping[str, Any]) -> dict[str, Any]:
    """``aws__SecureTransport`` for ``aws:SecureTransport``."""
    return {name.replace("__", ":"): value for name, value in given.items()}


# The calls.


def read(bucket: str, key: str) -> Call:
    return "s3", "GetObject", {"Bucket": bucket, "Key": key}


def put(bucket: str, key: str, **more: str) -> Call:
    return "s3", "PutObject", {"Bucket": bucket, "Key": key, **more}


def delete(bucket: str, key: str) -> Call:
    return "s3", "DeleteObject", {"Bucket": bucket, "Key": key}


def names(bucket: str) -> Call:
    return "s3", "ListObjectsV2", {"Bucket": bucket}


def item(operation: str, pk: str, table: str = "{JOBS}") -> Call:
    return "dynamodb", operation, {"TableName": table, ("Item" if operation == "PutItem" else "Key"): {"pk": {"S": pk}}}


def query(index: str, table: str = "{JOBS}") -> Call:
    return "dynamodb", "Query", {"TableName": table, "IndexName": index}


def on(operation: str, instance_id: str, **tags: str) -> Call:
    if operation == "CreateTags":
        return "ec2", operation, {"Resources": [instance_id], "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    return "ec2", operation, {"InstanceIds": [instance_id]}


def look(operation: str) -> Call:
    return "ec2", operation, {}


def event(source: str, bus: str = "default") -> Call:
    return "events", "PutEvents", {"Entries": [{"Source": source, "DetailType": "x", "EventBusName": bus}]}


def parameter(name: str) -> Call:
    return "ssm", "GetParameter", {"Name": name, "WithDecryption": True}


def mail(topic: str) -> Call:
    return "sns", "Publish", {"TopicArn": topic}


def ask(action: str, resource: str = "*") -> Call:
    return "", action, {"Resource": resource}


def order(template: str = "{TEMPLATE}", market: Market = Market.SPOT) -> Call:
    """The very request that the code makes, for every type on offer."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    plan = LaunchPlan(
        attempt=1,
        try_number=1,
        market=market,
        pools=tuple(Pool(zone="a", instance_type=kind, subnet_id="subnet-ours") for kind in GPU_INSTANCES),
        template_id=template,
        template_version="1",
        role_id=ROLE_ID,
        deadline_at=now,
        planned_at=now,
        client_token="t",
    )
    return "ec2", "CreateFleet", fleet_request(plan, TAGS)


def run(without: str = "", **changes: Any) -> Call:
    """RunInstances as good as can be, but for the changes, a parameter taken away, or a tag not given or given otherwise."""
    tags = {**TAGS, **changes.pop("tags", {})}
    tags.pop(without, None)
    request: dict[str, Any] = {
        "LaunchTemplate": {"LaunchTemplateId": "{TEMPLATE}", "Version": "1"},
        "InstanceType": "g5.xlarge",
        "SubnetId": "subnet-ours",
        "TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} for kind in ("instance", "volume")],
    }
    request |= changes
    request.pop(without, None)
    return "ec2", "RunInstances", request


def part(kind: str) -> Call:
    """RunInstances, asked about one resource alone: a launch that the other parts would not stop."""
    return ask("ec2:RunInstances", "{IMAGES}image/ami-1" if kind == "image" else f"{{EC2}}:{kind}/x")


#: Condition keys of a launch from another template, from ours, and from ours with a resource that the launch brings itself.
FROM_ANOTHER = {"ec2__LaunchTemplate": "{EC2}:launch-template/lt-0another", "ec2__IsLaunchTemplateResource": "true"}
FROM_OURS = {"ec2__LaunchTemplate": "{EC2}:launch-template/{TEMPLATE}", "ec2__IsLaunchTemplateResource": "true"}
ITS_OWN = {"ec2__LaunchTemplate": "{EC2}:launch-template/{TEMPLATE}", "ec2__IsLaunchTemplateResource": "false"}
#: What an instance that is as it must be is asked with, but for its template.
GOOD = {
    "ec2__MetadataHttpTokens": "required",
    "ec2__MetadataHttpPutResponseHopLimit": "1",
    "ec2__InstanceType": "g5.xlarge",
    **{f"aws__RequestTag/{key}": "{OURS}" if key == "dropforge:project" else value for key, value in TAGS.items()},
}
AT_BIRTH = {"ec2__CreateAction": "RunInstances", "aws__RequestTag/dropforge:project": "{OURS}"}
