"""Events that are not for a door: as AWS's own samples and other people's tools make them. Ignored with a reason that says what was wrong."""

import json
from typing import Any

import pytest

from control_plane import parsers
from control_plane.core.events import Ignored

DATA, OUTPUTS = "data-bucket", "outputs-bucket"
#: S3 guide, "EventBridge event message structure".
CREATED: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "region": "ca-central-1",
    "resources": [f"arn:aws:s3:::{DATA}"],
    "detail": {"version": "0", "bucket": {"name": DATA}, "object": {"key": "jobs/a.yaml", "size": 5}, "reason": "PutObject"},
}
#: S3 guide, "Event message structure": what a bucket sends to a function by itself, and `sam local generate-event s3 put` prints.
NOTIFICATION = {
    "Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": DATA}, "object": {"key": "jobs/a.yaml", "size": 5}}}]
}
IN_SNS = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "1", "Message": json.dumps(CREATED)}}]}
IN_SQS = {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": json.dumps(CREATED)}, {"eventSource": "aws:sqs", "body": "{}"}]}
#: S3 guide: sent once, when a notification is set up.
S3_TEST = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": DATA}
LIST = "not an event of EventBridge but a list of Records"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (NOTIFICATION, LIST),
        (IN_SNS, LIST),
        (IN_SQS, LIST),
        (S3_TEST, "not aws.s3 Object Created or Object Deleted: (none) (none)"),
        ({}, "not aws.s3 Object Created or Object Deleted: (none) (none)"),
        ({"key1": "value1"}, "not aws.s3 Object Created or Object Deleted: (none) (none)"),
        ([CREATED, CREATED], "not an event: not a JSON object"),
        ("hello", "not an event: not a JSON object"),
        (None, "not an event: not a JSON object"),
        ({**CREATED, "detail-type": "Object Restore Completed"}, "not aws.s3 Object Created or Object Deleted: aws.s3 Object Restore Completed"),
        ({**CREATED, "source": "aws.ec2"}, "not aws.s3 Object Created or Object Deleted: aws.ec2 Object Created"),
        ({**CREATED, "detail": None}, "the event has no detail"),
        ({**CREATED, "detail": {}}, "the event names no object"),
        ({**CREATED, "detail": {"bucket": {"name": "another"}, "object": {"key": "jobs/a.yaml"}}}, "not under jobs/ of this stack's data bucket"),
        ({**CREATED, "detail": {"bucket": {"name": DATA}, "object": {"key": "data/a.yaml"}}}, "not under jobs/ of this stack's data bucket"),
    ],
)
def test_what_is_no_manifests_event_is_ignored_and_said_what_it_is(event: Any, reason: str) -> None:
    found = parsers.parse_manifest_event(event, DATA)
    assert isinstance(found, Ignored)
    assert found.reason.startswith(reason)


def test_an_event_of_another_account_or_region_is_known_by_its_bucket() -> None:
    """EventBridge's envelope says where the event was put, which cross-account and cross-region rules change: the bucket's name is whose it is."""
    assert parsers.parse_manifest_event({**CREATED, "account": "999999999999", "region": "eu-west-1"}, DATA) == parsers.ManifestTouched(DATA, "jobs/a.yaml")


@pytest.mark.parametrize("event", [NOTIFICATION, IN_SNS, IN_SQS, S3_TEST, {}, None, [], {"detail-type": ["x"], "source": {}}, CREATED])
def test_no_door_for_instances_takes_what_is_not_of_ec2(event: Any) -> None:
    for found in (parsers.parse_interruption_event(event), parsers.parse_state_event(event), parsers.parse_budget_event(event, "dropforge")):
        assert isinstance(found, Ignored)
    assert parsers.parse_published(event) == ()


def test_an_instance_that_is_named_as_a_library_has_it_and_ec2_has_not_is_ignored() -> None:
    """Powertools for AWS Lambda's sample says ``instance_id`` where EC2 sends ``instance-id``."""
    sample = {"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning", "detail": {"instance_id": "i-1234567890abcdef0"}}
    assert parsers.parse_interruption_event(sample) == Ignored("the event names no instance")
