"""Post and Bus: the same on both sides, and what only SNS and EventBridge can answer."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from control_plane.adapters.errors import BusRefused
from control_plane.adapters.eventbridge import EventBridgeBus
from control_plane.adapters.letters import attributes_of
from control_plane.adapters.memory import BusEvent, MemoryBus, MemoryPost
from control_plane.adapters.sns import SnsPost
from control_plane.ports import Bus, Letter, Post
from tests.contract import aws_side

LETTER = Letter(
    "demo-1#end",
    "Dropforge: demo SUCCEEDED [demo-1#end]",
    "The model is at s3://outputs/runs/…\nIt cost $0.42.\n",
    {"project": "dropforge", "job": "demo", "kind": "end", "state": "SUCCEEDED"},
)

Delivered = tuple[str, str, dict[str, str]]


@pytest.fixture
def post_and_box(side: str) -> tuple[Post, Callable[[], list[Delivered]]]:
    """A post office, and what its subscribers got: subject, body, attributes."""
    if side == "memory":
        memory = MemoryPost()
        return memory, lambda: [(letter.subject, letter.body, attributes_of(letter)) for letter in memory.letters]
    topic = aws_side.client("sns").create_topic(Name="mail")["TopicArn"]
    queue, receive = _queue()
    aws_side.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)

    def delivered() -> list[Delivered]:
        envelopes = receive()
        return [(e["Subject"], e["Message"], {key: value["Value"] for key, value in e["MessageAttributes"].items()}) for e in envelopes]

    return SnsPost(aws_side.client("sns"), topic), delivered


@pytest.fixture
def bus_and_target(side: str) -> tuple[Bus, Callable[[], list[BusEvent]]]:
    """A bus, and what a rule for every event of ours brought to its target."""
    if side == "memory":
        memory = MemoryBus()
        return memory, lambda: memory.events
    queue, receive = _queue()
    events = aws_side.client("events")
    events.put_rule(Name="ours", EventPattern=json.dumps({"source": [{"prefix": "dropforge."}]}))
    events.put_targets(Rule="ours", Targets=[{"Id": "queue", "Arn": queue}])
    return EventBridgeBus(events), lambda: [BusEvent(e["source"], e["detail-type"], e["detail"]) for e in receive()]


def _queue() -> tuple[str, Callable[[], list[dict[str, Any]]]]:
    sqs = aws_side.client("sqs")
    url = sqs.create_queue(QueueName="target")["QueueUrl"]
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn, lambda: [json.loads(message["Body"]) for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])]


def test_a_letter_arrives_once_with_its_attributes_and_its_id(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(LETTER)
    assert box() == [(LETTER.subject, LETTER.body, {**LETTER.attributes, "notice_id": "demo-1#end"})]


def test_an_empty_attribute_does_not_stop_a_letter(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(replace(LETTER, attributes={"job": ""}))
    assert [attributes for _, _, attributes in box()] == [{"notice_id": "demo-1#end"}]


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"subject": "x" * 101}, "100"),
        ({"subject": ""}, "100"),
        ({"subject": "Dropforge: naïve"}, "ASCII"),
        ({"subject": "two\nlines"}, "ASCII"),
        ({"subject": " x"}, "space"),
        ({"body": ""}, "262144"),
        ({"body": "ü" * 131_073}, "262144"),
    ],
)
def test_a_letter_that_sns_would_refuse_is_refused_with_the_limit(
    post_and_box: tuple[Post, Callable[[], list[Delivered]]], change: dict[str, str], limit: str
) -> None:
    post, box = post_and_box
    with pytest.raises(ValueError, match=limit):
        post.publish(replace(LETTER, **change))  # type: ignore[arg-type] # replace() is typed by field
    assert box() == []


def test_the_longest_subject_passes(post_and_box: tuple[Post, Callable[[], list[Delivered]]]) -> None:
    post, box = post_and_box
    post.publish(replace(LETTER, subject="x" * 100))
    assert len(box()) == 1


def test_an_event_reaches_its_rules_target_as_json_brings_it(bus_and_target: tuple[Bus, Callable[[], list[BusEvent]]]) -> None:
    bus, target = bus_and_target
    bus.put(source="dropforge.budget", detail_type="Budget Alert", detail={"actual_usd": 0.59, "name": "Test Budget", "zones": ("a", "b"), "limit": None})
    assert target() == [BusEvent("dropforge.budget", "Budget Alert", {"actual_usd": 0.59, "name": "Test Budget", "zones": ["a", "b"], "limit": None})]


@pytest.mark.parametrize("detail", [{"amount_usd": float("nan")}, {"thing": object()}])
def test_a_detail_that_is_no_json_is_refused(bus_and_target: tuple[Bus, Callable[[], list[BusEvent]]], detail: dict[str, object]) -> None:
    bus, target = bus_and_target
    with pytest.raises((ValueError, TypeError), match="JSON"):
        bus.put(source="dropforge.budget", detail_type="Budget Alert", detail=detail)
    assert target() == []


@pytest.mark.usefixtures("aws")
def test_an_event_that_the_bus_did_not_take_is_an_error_though_the_answer_was_200() -> None:
    events = aws_side.client("events")
    failed = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}]}

    class Raw:
        status_code = 200

    events.meta.events.register("before-call.events.PutEvents", lambda **_: (Raw, failed))
    with pytest.raises(BusRefused, match=r"Budget Alert.*ThrottlingException: Rate exceeded"):
        EventBridgeBus(events).put(source="dropforge.budget", detail_type="Budget Alert", detail={})
